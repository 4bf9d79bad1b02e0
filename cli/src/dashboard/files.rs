//! The page's files, as they are in the binary.

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::get;
use http::header;

/// Nothing but what comes from here, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, type and content of each file.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("../../dashboard/index.html")),
    ("/style.css", "text/css", include_str!("../../dashboard/style.css")),
    ("/main.js", "text/javascript", include_str!("../../dashboard/main.js")),
    ("/store.js", "text/javascript", include_str!("../../dashboard/store.js")),
    ("/feed.js", "text/javascript", include_str!("../../dashboard/feed.js")),
    ("/cards.js", "text/javascript", include_str!("../../dashboard/cards.js")),
    ("/traffic.js", "text/javascript", include_str!("../../dashboard/traffic.js")),
    ("/details.js", "text/javascript", include_str!("../../dashboard/details.js")),
    ("/teller.js", "text/javascript", include_str!("../../dashboard/teller.js")),
];

/// Serves them.
pub(super) fn router() -> Router {
    FILES.iter().fold(Router::new(), |router, (path, kind, content)| {
        let answer = move || async move {
            let headers = [
                (header::CONTENT_TYPE, *kind),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::CACHE_CONTROL, "no-cache"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, *content).into_response()
        };
        router.route(path, get(answer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_asks_for_nothing_else() {
        let size: usize = FILES.iter().map(|(_, _, content)| content.len()).sum();
        assert!(size < 300 * 1024, "{size} bytes");
        for (path, _, content) in FILES {
            for line in content.lines().filter(|line| line.contains("import ") && line.contains(" from ")) {
                let module = line.split('"').nth(1).expect("a module");
                let served = module.strip_prefix('.').expect("a relative path");
                assert!(FILES.iter().any(|(known, _, _)| *known == served), "{path} wants {module}");
            }
            assert!(!content.contains("https://"), "{path} asks somebody else");
        }
    }
}
