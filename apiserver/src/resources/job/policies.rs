//! The rules of what ends a Job: its failure policy, its success policy and the limits of its indexes.

use serde_json::{Value, json};

use crate::resources::check::Errors;
use crate::resources::json::{at, has, integer, list, text};
use crate::resources::meta;

/// Failed indexes are named in the status, so there may not be any number of them.
const FAILED_INDEXES: i64 = 100_000;
/// With more indexes than this, fewer at a time and fewer failed ones.
const MANY_INDEXES: i64 = 100_000;
const LIMIT_OF_MANY: i64 = 10_000;
const RULES: usize = 20;
const EXIT_CODES: usize = 255;
const CONDITIONS: usize = 20;
const INDEXES_LENGTH: usize = 64 * 1024;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// Checks the parts of a Job's spec that this module is about; `field` is the path of the spec.
pub(super) fn validate(errors: &mut Errors, field: &str, spec: &Value) {
    index_limits(errors, field, spec);
    if has(spec, "/podFailurePolicy") {
        failure_policy(errors, field, spec);
    }
    if has(spec, "/successPolicy") {
        success_policy(errors, &format!("{field}.successPolicy"), spec);
    }
    if has(spec, "/podReplacementPolicy") {
        let policy = text(spec, "/podReplacementPolicy");
        // How a pod failed is known when it has ended.
        let allowed: &[&str] =
            if has(spec, "/podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        errors.one_of(format!("{field}.podReplacementPolicy"), policy, allowed);
    }
}

fn is_indexed(spec: &Value) -> bool {
    text(spec, "/completionMode") == "Indexed"
}

fn index_limits(errors: &mut Errors, field: &str, spec: &Value) {
    if !is_indexed(spec) {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            let value = &spec[name];
            if !value.is_null() {
                errors.invalid(format!("{field}.{name}"), value.clone(), "requires indexed completion mode");
            }
        }
    }
    let (most, completions) = (integer(spec, "/maxFailedIndexes"), integer(spec, "/completions").unwrap_or(0));
    let by_index = has(spec, "/backoffLimitPerIndex");
    if most.is_some() && !by_index {
        errors.required(format!("{field}.backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if !is_indexed(spec) {
        return;
    }
    let mut at_most = |name: &str, value: Option<i64>, limit: i64, why: &str| {
        if let Some(value) = value.filter(|value| *value > limit) {
            errors.invalid(format!("{field}.{name}"), value, format!("must be less than or equal to {why}"));
        }
    };
    at_most("maxFailedIndexes", most, completions, "completions");
    at_most("maxFailedIndexes", most, FAILED_INDEXES, &FAILED_INDEXES.to_string());
    if by_index && completions > MANY_INDEXES {
        let why =
            format!("{LIMIT_OF_MANY} when completions are above {MANY_INDEXES} and used with backoff limit per index");
        at_most("parallelism", integer(spec, "/parallelism"), LIMIT_OF_MANY, &why);
        at_most("maxFailedIndexes", most, LIMIT_OF_MANY, &why);
        if most.is_none() {
            let why = format!("must be specified when completions are above {MANY_INDEXES}");
            errors.required(format!("{field}.maxFailedIndexes"), &why);
        }
    }
}

fn failure_policy(errors: &mut Errors, field: &str, spec: &Value) {
    let restart = text(spec, "/template/spec/restartPolicy");
    if restart == "OnFailure" {
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.invalid(format!("{field}.template.spec.restartPolicy"), restart, why);
    }
    let rules = list(spec, "/podFailurePolicy/rules");
    if rules.len() > RULES {
        errors.too_many(format!("{field}.podFailurePolicy.rules"), rules.len(), RULES);
        return;
    }
    for (number, rule) in rules.iter().enumerate() {
        failure_rule(errors, &format!("{field}.podFailurePolicy.rules[{number}]"), spec, rule);
    }
}

fn failure_rule(errors: &mut Errors, field: &str, spec: &Value, rule: &Value) {
    let action = text(rule, "/action");
    choice(errors, format!("{field}.action"), action, &ACTIONS);
    if action == "FailIndex" && !has(spec, "/backoffLimitPerIndex") {
        errors.invalid(format!("{field}.action"), action, "requires the backoffLimitPerIndex to be set");
    }
    let conditions = list(rule, "/onPodConditions");
    match (has(rule, "/onExitCodes"), conditions.is_empty()) {
        (true, false) => {
            let why = "specifying both OnExitCodes and OnPodConditions is not supported";
            errors.invalid(field, rule.clone(), why);
        }
        (false, true) => {
            errors.invalid(field, rule.clone(), "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
    if has(rule, "/onExitCodes") {
        exit_codes(errors, &format!("{field}.onExitCodes"), spec, at(rule, "/onExitCodes"));
    }
    if conditions.len() > CONDITIONS {
        errors.too_many(format!("{field}.onPodConditions"), conditions.len(), CONDITIONS);
        return;
    }
    for (number, condition) in conditions.iter().enumerate() {
        let field = format!("{field}.onPodConditions[{number}]");
        let kind = text(condition, "/type");
        errors.rule(format!("{field}.type"), kind, meta::qualified_name(kind));
        choice(errors, format!("{field}.status"), text(condition, "/status"), &["False", "True", "Unknown"]);
    }
}

fn exit_codes(errors: &mut Errors, field: &str, spec: &Value, wanted: &Value) {
    let operator = text(wanted, "/operator");
    choice(errors, format!("{field}.operator"), operator, &["In", "NotIn"]);
    if has(wanted, "/containerName") {
        let name = text(wanted, "/containerName");
        let lists = ["/template/spec/containers", "/template/spec/initContainers"];
        if !lists.iter().flat_map(|which| list(spec, which)).any(|container| container["name"] == name) {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.invalid(format!("{field}.containerName"), name, why);
        }
    }
    let values = list(wanted, "/values");
    let field = format!("{field}.values");
    if values.is_empty() {
        errors.invalid(field.as_str(), json!([]), "at least one value is required");
    }
    if values.len() > EXIT_CODES {
        errors.too_many(field, values.len(), EXIT_CODES);
        return;
    }
    let codes: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    for (number, code) in codes.iter().enumerate() {
        if operator == "In" && *code == 0 {
            errors.invalid(format!("{field}[{number}]"), 0, "must not be 0 for the In operator");
        }
        if codes.iter().take(number).any(|other| other == code) {
            errors.duplicate(format!("{field}[{number}]"), *code);
        }
    }
    if !codes.is_sorted() {
        errors.invalid(field, wanted["values"].clone(), "must be ordered");
    }
}

fn success_policy(errors: &mut Errors, field: &str, spec: &Value) {
    if !is_indexed(spec) {
        errors.invalid(field, at(spec, "/successPolicy").clone(), "requires indexed completion mode");
        return;
    }
    let rules = list(spec, "/successPolicy/rules");
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.required(format!("{field}.rules"), why);
    }
    if rules.len() > RULES {
        errors.too_many(format!("{field}.rules"), rules.len(), RULES);
        return;
    }
    let completions = integer(spec, "/completions").unwrap_or(0);
    for (number, rule) in rules.iter().enumerate() {
        success_rule(errors, &format!("{field}.rules[{number}]"), rule, completions);
    }
}

fn success_rule(errors: &mut Errors, field: &str, rule: &Value, completions: i64) {
    if !has(rule, "/succeededCount") && !has(rule, "/succeededIndexes") {
        errors.required(field, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut named = None;
    if has(rule, "/succeededIndexes") {
        let field = format!("{field}.succeededIndexes");
        let indexes = text(rule, "/succeededIndexes");
        if indexes.len() > INDEXES_LENGTH {
            errors.too_long(field.as_str(), INDEXES_LENGTH);
        }
        match count(indexes, completions) {
            Ok(count) => named = Some(count),
            Err(why) => errors.invalid(field, indexes, format!("error parsing succeededIndexes: {why}")),
        }
    }
    let Some(wanted) = integer(rule, "/succeededCount") else { return };
    let field = format!("{field}.succeededCount");
    errors.not_negative(field.as_str(), Some(wanted));
    if wanted > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.invalid(field.as_str(), wanted, why);
    }
    if let Some(named) = named.filter(|named| wanted > *named) {
        let why = format!(
            "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.invalid(field, wanted, why);
    }
}

/// How many indexes a text such as `0-2,5` names.
fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut previous) = (0, -1);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let index = |text: &str| -> Result<i64, String> {
            let index: u32 =
                text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
            let index = i64::from(index);
            if index < completions { Ok(index) } else { Err(format!("too large index: {text:?}")) }
        };
        let (first, last) = match part.split_once('-') {
            None => (index(part)?, index(part)?),
            Some((first, last)) => {
                let (first, last) = (index(first)?, index(last)?);
                increasing(first, last)?;
                (first, last)
            }
        };
        increasing(previous, first)?;
        total += last - first + 1;
        previous = last;
    }
    Ok(total)
}

fn increasing(previous: i64, current: i64) -> Result<(), String> {
    if previous < current {
        return Ok(());
    }
    Err(format!("non-increasing order, previous: {previous}, current: {current}"))
}

/// Records that a choice was not made, or that it is none of these.
fn choice(errors: &mut Errors, field: String, value: &str, allowed: &[&str]) {
    if value.is_empty() {
        errors.required(field, &format!("valid values: {allowed:?}"));
    } else {
        errors.one_of(field, value, allowed);
    }
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;
