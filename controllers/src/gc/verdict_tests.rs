use super::*;
use crate::cache::Key;
use crate::gc::graph::Reference;

fn case(owners: &[&str]) -> Case {
    let reference = |uid: &&str| Reference { kind: Some(0), name: "o".into(), uid: (*uid).into(), blocks: true };
    Case {
        kind: 0,
        key: Key::new("default", "x"),
        owners: owners.iter().map(reference).collect(),
        deleting: false,
        foreground: false,
        orphan: false,
    }
}

fn unlink(uids: &[&str]) -> Verdict {
    Verdict::Unlink(uids.iter().map(|uid| (*uid).to_owned()).collect())
}

#[test]
fn owners_decide() {
    use Owner::{Absent, There, Unknown, Waiting};
    use Propagation::{Background, Foreground, Orphan};
    let two = || case(&["a", "b"]);
    let deleting = || Case { deleting: true, ..two() };
    for (label, case, owners, dependants, expected) in [
        ("P-085: none is left", two(), [Absent, Absent], false, Verdict::Delete(Background)),
        ("P-085: one is left", two(), [Absent, There], false, unlink(&["a"])),
        ("P-085: both are left", two(), [There, There], false, Verdict::Keep),
        ("P-085: cannot be judged", two(), [Unknown, Unknown], false, Verdict::Keep),
        ("P-086: the owner waits", two(), [Waiting, Absent], false, Verdict::Delete(Background)),
        ("P-086: it has dependants itself", two(), [Waiting, Absent], true, Verdict::Delete(Foreground)),
        ("P-086: another owner keeps it", two(), [Waiting, There], false, unlink(&["a"])),
        ("P-085: already going", deleting(), [Absent, Absent], false, Verdict::Keep),
        ("P-086: going, orphaning", Case { orphan: true, ..two() }, [Absent, Absent], false, Verdict::Delete(Orphan)),
    ] {
        assert_eq!(verdict(&case, &owners, dependants), expected, "{label}");
    }
    assert_eq!(verdict(&case(&[]), &[], true), Verdict::Keep);
}

// P-086
#[test]
fn only_dependants_that_say_so_block() {
    let mut dependant = case(&["a"]);
    assert!(blocks(&dependant, "a"));
    assert!(!blocks(&dependant, "b"));
    dependant.owners[0].blocks = false;
    assert!(!blocks(&dependant, "a"));
}
