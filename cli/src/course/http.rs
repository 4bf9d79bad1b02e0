//! What answers to requests must be. Pure: the requests are made elsewhere.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::lesson::HttpCheck;

/// One answer, as `__get` prints it: the status code and the body; or why there is none.
pub(crate) type Answer = Result<String, String>;

/// Whether these answers are as they must be; the error is a sentence.
pub(crate) fn judge(wanted: &HttpCheck, url: &str, answers: &[Answer], client: Option<IpAddr>) -> Result<(), String> {
    let mut pods = BTreeSet::new();
    for answer in answers {
        let text = answer.as_ref().map_err(|error| format!("{url} does not answer: {error}"))?;
        let (status, body) = text.split_once(' ').unwrap_or((text, ""));
        if status != "200" {
            return Err(format!("{url} answers with {status}"));
        }
        if !body.contains(&wanted.contains) {
            return Err(format!("{url} answers {body:?}, without {:?}", wanted.contains));
        }
        pods.insert(body.split_whitespace().next().unwrap_or_default().to_owned());
        if wanted.sees == "client" {
            let seen = seen(body).ok_or_else(|| format!("{url} does not say whom it saw: {body:?}"))?;
            if Some(seen) != client {
                let client = client.map_or_else(|| "unknown".to_owned(), |client| client.to_string());
                return Err(format!("{url} saw {seen} ask; the client is {client}"));
            }
        }
    }
    let names: Vec<&str> = pods.iter().map(String::as_str).collect();
    if pods.len() < wanted.spread {
        let all = answers.len();
        return Err(format!(
            "{all} requests to {url} were answered by {} only, not by {}",
            names.join(", "),
            wanted.spread
        ));
    }
    if wanted.same && pods.len() > 1 {
        return Err(format!(
            "{} requests to {url} were answered by {}, not always by the same",
            answers.len(),
            names.join(", ")
        ));
    }
    Ok(())
}

/// The address that `minisvc/echo` says it saw.
fn seen(body: &str) -> Option<IpAddr> {
    let after = body.split_once(" saw ")?.1;
    after.split_whitespace().next()?.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(texts: &[&str]) -> Vec<Answer> {
        texts.iter().map(|text| Ok(format!("200 {text} on node-1 saw 10.95.0.1 ask GET /"))).collect()
    }

    fn judged(wanted: &HttpCheck, answers: &[Answer]) -> Result<(), String> {
        judge(wanted, "http://web", answers, "10.95.0.1".parse().ok())
    }

    #[test]
    fn answers_are_judged_one_by_one_and_together() {
        let any = HttpCheck::default;
        assert_eq!(judged(&any(), &answers(&["a", "b"])), Ok(()));
        let refused: Vec<Answer> = vec![Err("connection refused".into())];
        assert!(judged(&any(), &refused).expect_err("refused").contains("does not answer: connection refused"));
        let not_found: Vec<Answer> = vec![Ok("404 nothing".into())];
        assert!(judged(&any(), &not_found).expect_err("404").contains("answers with 404"));
        let contains = HttpCheck { contains: "green".into(), ..any() };
        assert_eq!(judged(&contains, &answers(&["green-1", "green-2"])), Ok(()));
        assert!(judged(&contains, &answers(&["green-1", "blue-1"])).is_err());
        let spread = HttpCheck { spread: 2, ..any() };
        assert_eq!(judged(&spread, &answers(&["a", "a", "b"])), Ok(()));
        assert!(judged(&spread, &answers(&["a", "a"])).expect_err("one").contains("answered by a only"));
        let same = HttpCheck { same: true, ..any() };
        assert_eq!(judged(&same, &answers(&["a", "a"])), Ok(()));
        assert!(judged(&same, &answers(&["a", "b"])).is_err());
        let sees = HttpCheck { sees: "client".into(), ..any() };
        assert_eq!(judged(&sees, &answers(&["a"])), Ok(()));
        let other = judge(&sees, "http://web", &answers(&["a"]), "10.95.0.9".parse().ok());
        assert!(other.expect_err("another").contains("saw 10.95.0.1 ask; the client is 10.95.0.9"));
    }
}
