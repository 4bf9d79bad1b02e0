//! Volumes, claims and their classes: stored and served, not acted on.

use serde_json::{Value, json};

use super::inert::{INERT, rules};
use super::json::{at, child, has, is_true, list, set, set_default, set_default_text, text, texts};
use super::printing::{or_none, or_unset};
use crate::registry::{Column, Resource, Subresource};
use crate::table;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

pub(super) fn all() -> Vec<Resource> {
    vec![
        storage_class(),
        volume_attachment(),
        csi_driver(),
        csi_node(),
        csi_storage_capacity(),
        volume_attributes_class(),
    ]
}

/// Fills in the spec of a claim, be it an object or part of a StatefulSet.
pub(super) fn default_claim(claim: &mut Value) {
    if let Some(spec) = child(claim, "spec") {
        set_default_text(spec, "volumeMode", "Filesystem");
    }
}

/// `RWO,ROX`
fn access_modes(modes: &[&str]) -> String {
    let short = |mode: &&str| match *mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    modes.iter().map(short).filter(|short| !short.is_empty()).collect::<Vec<_>>().join(",")
}

pub(super) fn persistent_volume() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::text("Capacity", "How much fits."),
        Column::text("Access Modes", "How it may be mounted."),
        Column::text("Reclaim Policy", "What becomes of it after its claim."),
        Column::text("Status", "Whether it is bound."),
        Column::text("Claim", "What it is bound to."),
        Column::text("StorageClass", "Its class."),
        Column::text("VolumeAttributesClass", "Class of what may change about it."),
        Column::text("Reason", "Why it is in its state."),
        Column::AGE,
        Column::text("VolumeMode", "File system or block device.").wide(),
    ];
    Resource {
        kind: "PersistentVolume",
        plural: "persistentvolumes",
        singular: "persistentvolume",
        short_names: &["pv"],
        namespaced: false,
        has_status: true,
        returns_deleted_object: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row: |object, now| {
            let claim = match text(object, "/spec/claimRef/name") {
                "" => String::new(),
                name => format!("{}/{name}", text(object, "/spec/claimRef/namespace")),
            };
            vec![
                table::name(object).into(),
                text(object, "/spec/capacity/storage").into(),
                access_modes(&texts(object, "/spec/accessModes")).into(),
                text(object, "/spec/persistentVolumeReclaimPolicy").into(),
                text(object, "/status/phase").into(),
                claim.into(),
                text(object, "/spec/storageClassName").into(),
                or_unset(text(object, "/spec/volumeAttributesClassName")),
                text(object, "/status/reason").into(),
                table::age(object, now).into(),
                or_unset(text(object, "/spec/volumeMode")),
            ]
        },
        default: |object| {
            if let Some(spec) = child(object, "spec") {
                set_default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
                set_default_text(spec, "volumeMode", "Filesystem");
            }
        },
        prepare: pending,
        validate: |new, old| rules(new, old, &["spec.capacity", "spec.accessModes"], &["spec.volumeMode"]),
        ..INERT
    }
}

pub(super) fn persistent_volume_claim() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::text("Status", "Whether it is bound."),
        Column::text("Volume", "What it is bound to."),
        Column::text("Capacity", "How much fits."),
        Column::text("Access Modes", "How it may be mounted."),
        Column::text("StorageClass", "Its class."),
        Column::text("VolumeAttributesClass", "Class of what may change about it."),
        Column::AGE,
        Column::text("VolumeMode", "File system or block device.").wide(),
    ];
    Resource {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        has_status: true,
        returns_deleted_object: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row: |object, now| {
            let phase = match has(object, "/metadata/deletionTimestamp") {
                true => "Terminating",
                false => text(object, "/status/phase"),
            };
            let bound = !text(object, "/spec/volumeName").is_empty();
            let modes = if bound { access_modes(&texts(object, "/status/accessModes")) } else { String::new() };
            let capacity = if bound { text(object, "/status/capacity/storage") } else { "" };
            vec![
                table::name(object).into(),
                phase.into(),
                text(object, "/spec/volumeName").into(),
                capacity.into(),
                modes.into(),
                text(object, "/spec/storageClassName").into(),
                or_unset(text(object, "/spec/volumeAttributesClassName")),
                table::age(object, now).into(),
                or_unset(text(object, "/spec/volumeMode")),
            ]
        },
        default: default_claim,
        prepare: pending,
        validate: |new, old| {
            let fixed = ["spec.accessModes", "spec.volumeMode", "spec.selector", "spec.storageClassName"];
            rules(new, old, &["spec.accessModes", "spec.resources.requests.storage"], &fixed)
        },
        ..INERT
    }
}

fn pending(new: &mut Value, old: Option<&Value>) {
    if old.is_none() {
        set(new, "status", json!({"phase": "Pending"}));
    }
}

const STORAGE: Resource =
    Resource { group: "storage.k8s.io", namespaced: false, returns_deleted_object: true, ..INERT };

fn storage_class() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::text("Provisioner", "Who makes its volumes."),
        Column::text("ReclaimPolicy", "What becomes of a volume after its claim."),
        Column::text("VolumeBindingMode", "When a claim gets its volume."),
        Column::text("AllowVolumeExpansion", "Whether claims may grow."),
        Column::AGE,
    ];
    Resource {
        kind: "StorageClass",
        plural: "storageclasses",
        singular: "storageclass",
        short_names: &["sc"],
        columns: COLUMNS,
        row: |object, now| {
            let is_default = at(object, "/metadata/annotations").get(DEFAULT_CLASS).is_some_and(|v| v == "true");
            let mark = if is_default { " (default)" } else { "" };
            vec![
                format!("{}{mark}", table::name(object)).into(),
                text(object, "/provisioner").into(),
                text(object, "/reclaimPolicy").into(),
                text(object, "/volumeBindingMode").into(),
                is_true(object, "/allowVolumeExpansion").to_string().into(),
                table::age(object, now).into(),
            ]
        },
        default: |object| {
            set_default_text(object, "reclaimPolicy", "Delete");
            set_default_text(object, "volumeBindingMode", "Immediate");
        },
        validate: |new, old| {
            let fixed = ["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"];
            rules(new, old, &["provisioner"], &fixed)
        },
        ..STORAGE
    }
}

fn volume_attachment() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::text("Attacher", "Who attaches it."),
        Column::text("PV", "The volume."),
        Column::text("Node", "Where to."),
        Column::text("Attached", "Whether it is done."),
        Column::AGE,
    ];
    Resource {
        kind: "VolumeAttachment",
        plural: "volumeattachments",
        singular: "volumeattachment",
        has_status: true,
        subresources: &[Subresource::Status],
        columns: COLUMNS,
        row: |object, now| {
            vec![
                table::name(object).into(),
                text(object, "/spec/attacher").into(),
                text(object, "/spec/source/persistentVolumeName").into(),
                text(object, "/spec/nodeName").into(),
                is_true(object, "/status/attached").to_string().into(),
                table::age(object, now).into(),
            ]
        },
        validate: |new, old| rules(new, old, &["spec.attacher", "spec.nodeName"], &["spec"]),
        ..STORAGE
    }
}

fn csi_driver() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::text("AttachRequired", "Whether volumes are attached before they are mounted."),
        Column::text("PodInfoOnMount", "Whether it is told which pod it mounts for."),
        Column::text("StorageCapacity", "Whether it publishes how much room it has."),
        Column::text("TokenRequests", "Audiences of the tokens it gets."),
        Column::text("RequiresRepublish", "Whether volumes are published again and again."),
        Column::text("Modes", "Life cycles of its volumes."),
        Column::AGE,
    ];
    Resource {
        kind: "CSIDriver",
        plural: "csidrivers",
        singular: "csidriver",
        columns: COLUMNS,
        row: |object, now| {
            let flag = |name: &str| Value::from(is_true(object, &format!("/spec/{name}")).to_string());
            let tokens: Vec<&str> = list(object, "/spec/tokenRequests").iter().map(|t| text(t, "/audience")).collect();
            vec![
                table::name(object).into(),
                flag("attachRequired"),
                flag("podInfoOnMount"),
                flag("storageCapacity"),
                or_unset(&tokens.join(",")),
                flag("requiresRepublish"),
                or_none(texts(object, "/spec/volumeLifecycleModes").join(",")),
                table::age(object, now).into(),
            ]
        },
        default: |object| {
            let Some(spec) = child(object, "spec") else { return };
            for (flag, value) in [
                ("attachRequired", true),
                ("podInfoOnMount", false),
                ("storageCapacity", false),
                ("requiresRepublish", false),
                ("seLinuxMount", false),
            ] {
                set_default(spec, flag, value);
            }
            set_default_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            set_default(spec, "volumeLifecycleModes", json!(["Persistent"]));
        },
        ..STORAGE
    }
}

fn csi_node() -> Resource {
    const COLUMNS: &[Column] = &[Column::NAME, Column::integer("Drivers", "How many drivers it has."), Column::AGE];
    Resource {
        kind: "CSINode",
        plural: "csinodes",
        singular: "csinode",
        columns: COLUMNS,
        row: |object, now| {
            let drivers = list(object, "/spec/drivers").len();
            vec![table::name(object).into(), drivers.into(), table::age(object, now).into()]
        },
        ..STORAGE
    }
}

fn csi_storage_capacity() -> Resource {
    const COLUMNS: &[Column] = &[
        Column::NAME,
        Column::text("StorageClassName", "The class it is about."),
        Column::text("Capacity", "How much room there is."),
    ];
    Resource {
        kind: "CSIStorageCapacity",
        plural: "csistoragecapacities",
        singular: "csistoragecapacity",
        namespaced: true,
        columns: COLUMNS,
        row: |object, _| {
            let class = text(object, "/storageClassName");
            vec![table::name(object).into(), class.into(), text(object, "/capacity").into()]
        },
        validate: |new, old| rules(new, old, &["storageClassName"], &["storageClassName", "nodeTopology"]),
        ..STORAGE
    }
}

fn volume_attributes_class() -> Resource {
    const COLUMNS: &[Column] = &[Column::NAME, Column::text("DriverName", "Whose class it is."), Column::AGE];
    Resource {
        kind: "VolumeAttributesClass",
        plural: "volumeattributesclasses",
        singular: "volumeattributesclass",
        short_names: &["vac"],
        columns: COLUMNS,
        row: |object, now| {
            let driver = text(object, "/driverName");
            vec![table::name(object).into(), driver.into(), table::age(object, now).into()]
        },
        validate: |new, old| rules(new, old, &["driverName"], &["driverName", "parameters"]),
        ..STORAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_claim_waits_for_a_volume() {
        let kind = persistent_volume_claim();
        let mut claim =
            json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}});
        (kind.default)(&mut claim);
        (kind.prepare)(&mut claim, None);
        let cells = (kind.row)(&claim, jiff::Timestamp::UNIX_EPOCH);
        let expected = json!(["c", "Pending", "", "", "", "fast", "<unset>", "<unknown>", "Filesystem"]);
        assert_eq!(Value::from(cells), expected);
        let missing: Vec<String> = (kind.validate)(&claim, None).into_iter().map(|e| e.field).collect();
        assert_eq!(missing, ["spec.resources.requests.storage"]);
    }

    #[test]
    fn access_modes_are_abbreviated() {
        assert_eq!(
            access_modes(&["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]),
            "RWO,ROX,RWX,RWOP"
        );
    }
}
