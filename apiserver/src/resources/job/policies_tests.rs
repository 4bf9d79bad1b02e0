use super::super::tests::job;
use super::super::validation;
use super::*;

fn fields(change: Value) -> Vec<String> {
    validation::validate(&job(change), None).into_iter().map(|error| error.field).collect()
}

/// Checks rows of a label, a spec, and the fields that are wrong with it, below `prefix`.
fn check(prefix: &str, rows: Vec<(&str, Value, Vec<&str>)>) {
    for (label, spec, expected) in rows {
        let expected: Vec<String> = expected.into_iter().map(|field| format!("{prefix}{field}")).collect();
        assert_eq!(fields(spec.clone()), expected, "{label}: {spec}");
    }
}

fn indexed(more: Value) -> Value {
    let mut spec = json!({"completionMode": "Indexed", "completions": 10});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn failure_rules() {
    let policy = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let codes = |codes: Value| policy(json!({"action": "FailJob", "onExitCodes": codes}));
    let conditions = |condition: Value| policy(json!({"action": "Ignore", "onPodConditions": [condition]}));
    let both = json!({
        "action": "Count", "onExitCodes": {"operator": "In", "values": [1]}, "onPodConditions": [{"type": "A"}],
    });
    check(
        "spec.podFailurePolicy.rules[0]",
        vec![
            ("exit codes", codes(json!({"operator": "In", "values": [1, 42]})), vec![]),
            ("of a container", codes(json!({"operator": "NotIn", "values": [0, 1], "containerName": "c"})), vec![]),
            (
                "of which?",
                codes(json!({"operator": "In", "values": [1], "containerName": "d"})),
                vec![".onExitCodes.containerName"],
            ),
            ("no operator", codes(json!({"values": [1]})), vec![".onExitCodes.operator"]),
            ("another operator", codes(json!({"operator": "Is", "values": [1]})), vec![".onExitCodes.operator"]),
            ("no codes", codes(json!({"operator": "In", "values": []})), vec![".onExitCodes.values"]),
            ("success", codes(json!({"operator": "In", "values": [0]})), vec![".onExitCodes.values[0]"]),
            ("twice", codes(json!({"operator": "In", "values": [1, 1]})), vec![".onExitCodes.values[1]"]),
            ("in disorder", codes(json!({"operator": "In", "values": [2, 1]})), vec![".onExitCodes.values"]),
            (
                "too many codes",
                codes(json!({"operator": "In", "values": (1..=256).collect::<Vec<_>>()})),
                vec![".onExitCodes.values"],
            ),
            ("a condition", conditions(json!({"type": "DisruptionTarget"})), vec![]),
            ("no condition", conditions(json!({"type": "a b"})), vec![".onPodConditions[0].type"]),
            ("no status", conditions(json!({"type": "A", "status": "Maybe"})), vec![".onPodConditions[0].status"]),
            ("neither", policy(json!({"action": "FailJob"})), vec![""]),
            ("both", policy(both), vec![""]),
            ("no action", policy(json!({"onPodConditions": [{"type": "A"}]})), vec![".action"]),
            ("another action", policy(json!({"action": "Retry", "onPodConditions": [{"type": "A"}]})), vec![".action"]),
            (
                "no limit per index",
                policy(json!({"action": "FailIndex", "onPodConditions": [{"type": "A"}]})),
                vec![".action"],
            ),
        ],
    );
    let rule = json!({"action": "Ignore", "onPodConditions": [{"type": "A"}]});
    let many = json!({"podFailurePolicy": {"rules": vec![rule.clone(); 21]}});
    let wide = policy(json!({"action": "Ignore", "onPodConditions": vec![json!({"type": "A"}); 21]}));
    let restarts = json!({"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]});
    let mut on_failure = policy(rule.clone());
    on_failure["template"] = json!({"spec": restarts});
    let mut early = policy(rule);
    early["podReplacementPolicy"] = json!("TerminatingOrFailed");
    check(
        "spec.",
        vec![
            ("too many rules", many, vec!["podFailurePolicy.rules"]),
            ("too many conditions", wide, vec!["podFailurePolicy.rules[0].onPodConditions"]),
            ("pods that restart", on_failure, vec!["template.spec.restartPolicy"]),
            ("replaced before they have failed", early, vec!["podReplacementPolicy"]),
            ("replaced when they have failed", json!({"podReplacementPolicy": "Failed"}), vec![]),
            ("replaced when?", json!({"podReplacementPolicy": "Never"}), vec!["podReplacementPolicy"]),
        ],
    );
}

#[test]
fn limits_of_indexes() {
    check(
        "spec.",
        vec![
            ("both", indexed(json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 10})), vec![]),
            ("no indexes", json!({"backoffLimitPerIndex": 1}), vec!["backoffLimitPerIndex"]),
            ("no indexes at all", json!({"maxFailedIndexes": 1}), vec!["maxFailedIndexes", "backoffLimitPerIndex"]),
            ("no limit", indexed(json!({"maxFailedIndexes": 1})), vec!["backoffLimitPerIndex"]),
            ("negative", indexed(json!({"backoffLimitPerIndex": -1})), vec!["backoffLimitPerIndex"]),
            (
                "more than there are",
                indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 11})),
                vec!["maxFailedIndexes"],
            ),
            (
                "many",
                indexed(json!({"completions": 100_001, "backoffLimitPerIndex": 1, "maxFailedIndexes": 10_000})),
                vec![],
            ),
            (
                "many, without a limit",
                indexed(json!({"completions": 100_001, "backoffLimitPerIndex": 1})),
                vec!["maxFailedIndexes"],
            ),
            (
                "many at a time",
                indexed(json!({
                    "completions": 100_001, "backoffLimitPerIndex": 1, "maxFailedIndexes": 1, "parallelism": 10_001,
                })),
                vec!["parallelism"],
            ),
        ],
    );
}

#[test]
fn success_rules() {
    let rule = |rule: Value| indexed(json!({"successPolicy": {"rules": [rule]}}));
    check(
        "spec.successPolicy",
        vec![
            ("a number", rule(json!({"succeededCount": 10})), vec![]),
            ("indexes", rule(json!({"succeededIndexes": "0,2-5,9"})), vec![]),
            ("both", rule(json!({"succeededIndexes": "0,2-5,9", "succeededCount": 6})), vec![]),
            ("neither", rule(json!({})), vec![".rules[0]"]),
            ("negative", rule(json!({"succeededCount": -1})), vec![".rules[0].succeededCount"]),
            ("more than there are", rule(json!({"succeededCount": 11})), vec![".rules[0].succeededCount"]),
            (
                "more than are named",
                rule(json!({"succeededIndexes": "0,2-5,9", "succeededCount": 7})),
                vec![".rules[0].succeededCount"],
            ),
            ("an index that is not there", rule(json!({"succeededIndexes": "10"})), vec![".rules[0].succeededIndexes"]),
            ("no index", rule(json!({"succeededIndexes": "0,x"})), vec![".rules[0].succeededIndexes"]),
            ("in disorder", rule(json!({"succeededIndexes": "3,1"})), vec![".rules[0].succeededIndexes"]),
            ("backwards", rule(json!({"succeededIndexes": "3-1"})), vec![".rules[0].succeededIndexes"]),
            ("no rules", indexed(json!({"successPolicy": {"rules": []}})), vec![".rules"]),
            ("no indexes", json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}), vec![""]),
        ],
    );
}
