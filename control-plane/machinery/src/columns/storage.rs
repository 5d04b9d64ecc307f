//! Volumes, claims, classes and drivers.

use serde_json::Value;

use super::cells::{self, NONE, UNSET};
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;

const VOLUME_MODE: Column = Column::text(
    "VolumeMode",
    "Whether the volume is a filesystem or a block device.",
);

pub(super) static PERSISTENT_VOLUME: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Capacity", "Size of the volume."),
        Column::text("Access Modes", "Ways in which the volume can be mounted."),
        Column::text("Reclaim Policy", "What becomes of it when its claim goes."),
        Column::text("Status", "Whether it is bound."),
        Column::text("Claim", "The claim that it is bound to."),
        Column::text("StorageClass", "The class that it belongs to."),
        Column::text(
            "VolumeAttributesClass",
            "The class of its changeable attributes.",
        ),
        Column::text("Reason", "Why it is in its status."),
        AGE,
        VOLUME_MODE.wide(),
    ],
    |volume, now| {
        let claim = volume.field(&["spec", "claimRef"]);
        let claim =
            claim.map(|claim| format!("{}/{}", claim.text(&["namespace"]), claim.text(&["name"])));
        vec![
            cells::name(volume),
            cells::shown_or(volume, &["spec", "capacity", "storage"], "0").into(),
            access_modes(volume.list(&["spec", "accessModes"])),
            cells::text(volume, &["spec", "persistentVolumeReclaimPolicy"]),
            phase(volume),
            claim.unwrap_or_default().into(),
            storage_class(volume),
            cells::text_or(volume, &["spec", "volumeAttributesClassName"], UNSET),
            cells::text(volume, &["status", "reason"]),
            cells::age(volume, now),
            cells::text_or(volume, &["spec", "volumeMode"], UNSET),
        ]
    },
);

pub(super) static PERSISTENT_VOLUME_CLAIM: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Status", "Whether it is bound."),
        Column::text("Volume", "The volume that it is bound to."),
        Column::text("Capacity", "Size of that volume."),
        Column::text("Access Modes", "Ways in which that volume can be mounted."),
        Column::text("StorageClass", "The class that it asks for."),
        Column::text(
            "VolumeAttributesClass",
            "The class of changeable attributes that it asks for.",
        ),
        AGE,
        VOLUME_MODE.wide(),
    ],
    |claim, now| {
        let bound = !claim.text(&["spec", "volumeName"]).is_empty();
        let (capacity, modes) = match bound {
            true => (
                cells::shown_or(claim, &["status", "capacity", "storage"], "0").into(),
                access_modes(claim.list(&["status", "accessModes"])),
            ),
            false => ("".into(), "".into()),
        };
        vec![
            cells::name(claim),
            phase(claim),
            cells::text(claim, &["spec", "volumeName"]),
            capacity,
            modes,
            storage_class(claim),
            cells::text_or(claim, &["spec", "volumeAttributesClassName"], UNSET),
            cells::age(claim, now),
            cells::text_or(claim, &["spec", "volumeMode"], UNSET),
        ]
    },
);

fn phase(object: &Value) -> Value {
    if object.is_being_deleted() {
        "Terminating".into()
    } else {
        cells::text(object, &["status", "phase"])
    }
}

fn storage_class(object: &Value) -> Value {
    match object.annotation("volume.beta.kubernetes.io/storage-class") {
        Some(class) => class.into(),
        None => cells::text(object, &["spec", "storageClassName"]),
    }
}

fn access_modes(modes: &[Value]) -> Value {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| modes.iter().any(|m| m == mode);
    let shown: Vec<&str> = SHORT
        .iter()
        .filter(|(mode, _)| has(mode))
        .map(|(_, short)| *short)
        .collect();
    shown.join(",").into()
}

pub(super) static STORAGE_CLASS: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Provisioner", "What makes the volumes."),
        Column::text(
            "ReclaimPolicy",
            "What becomes of a volume when its claim goes.",
        ),
        Column::text("VolumeBindingMode", "When volumes are made."),
        Column::text("AllowVolumeExpansion", "Whether volumes may grow."),
        AGE,
    ],
    |class, now| {
        const DEFAULT: [&str; 2] = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        let is_default = DEFAULT
            .iter()
            .any(|key| class.annotation(key) == Some("true"));
        let name = if is_default {
            format!("{} (default)", class.name())
        } else {
            class.name().to_owned()
        };
        vec![
            name.into(),
            cells::text(class, &["provisioner"]),
            cells::text_or(class, &["reclaimPolicy"], "Delete"),
            cells::text_or(class, &["volumeBindingMode"], "Immediate"),
            cells::flag(class, &["allowVolumeExpansion"]),
            cells::age(class, now),
        ]
    },
);

pub(super) static VOLUME_ATTRIBUTES_CLASS: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("DriverName", "The driver that knows the attributes."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::text(object, &["driverName"]),
            cells::age(object, now),
        ]
    },
);

pub(super) static VOLUME_ATTACHMENT: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Attacher", "The driver that attaches.").named(),
        Column::text("PV", "The volume."),
        Column::text("Node", "The node."),
        Column::boolean("Attached", "Whether it is attached."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::text(object, &["spec", "attacher"]),
            cells::text(object, &["spec", "source", "persistentVolumeName"]),
            cells::text(object, &["spec", "nodeName"]),
            cells::flag(object, &["status", "attached"]),
            cells::age(object, now),
        ]
    },
);

pub(super) static CSI_DRIVER: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::boolean("AttachRequired", "Whether volumes must be attached."),
        Column::boolean("PodInfoOnMount", "Whether the driver is told about pods."),
        Column::boolean("StorageCapacity", "Whether the driver reports capacity."),
        Column::text("TokenRequests", "Audiences of the tokens that it gets."),
        Column::boolean(
            "RequiresRepublish",
            "Whether volumes are published again and again.",
        ),
        Column::text("Modes", "Lifecycles of volumes that it supports."),
        AGE,
    ],
    |driver, now| {
        let join = |texts: Vec<&str>, none: &str| {
            if texts.is_empty() {
                none.to_owned()
            } else {
                texts.join(",")
            }
        };
        let modes = driver
            .list(&["spec", "volumeLifecycleModes"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let audiences = driver
            .list(&["spec", "tokenRequests"])
            .iter()
            .map(|t| t.text(&["audience"]))
            .collect();
        vec![
            cells::name(driver),
            driver
                .field(&["spec", "attachRequired"])
                .and_then(Value::as_bool)
                .unwrap_or(true)
                .into(),
            cells::flag(driver, &["spec", "podInfoOnMount"]),
            cells::flag(driver, &["spec", "storageCapacity"]),
            join(audiences, UNSET).into(),
            cells::flag(driver, &["spec", "requiresRepublish"]),
            join(modes, NONE).into(),
            cells::age(driver, now),
        ]
    },
);

pub(super) static CSI_NODE: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::integer("Drivers", "Drivers on the node."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            object.list(&["spec", "drivers"]).len().into(),
            cells::age(object, now),
        ]
    },
);

pub(super) static CSI_STORAGE_CAPACITY: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("StorageClassName", "The class that the capacity is of."),
        Column::text("Capacity", "What is left."),
    ],
    |object, _| {
        vec![
            cells::name(object),
            cells::text(object, &["storageClassName"]),
            cells::shown_or(object, &["capacity"], UNSET).into(),
        ]
    },
);

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::check::check;
    use super::*;

    #[test]
    fn volumes_and_claims() {
        check(
            &PERSISTENT_VOLUME,
            json!({"metadata": {}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "d", "name": "c"}, "storageClassName": "s",
                "volumeMode": "Filesystem"}, "status": {"phase": "Bound"}}),
            expect!["x | 1Gi | RWO,RWX | Retain | Bound | d/c | s | <unset> |  | 10m | Filesystem"],
        );
        check(
            &PERSISTENT_VOLUME_CLAIM,
            json!({"metadata": {}, "spec": {"accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Pending"}}),
            expect!["x | Pending |  |  |  |  | <unset> | 10m | <unset>"],
        );
        check(
            &STORAGE_CLASS,
            json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"}),
            expect!["x (default) | p | Delete | Immediate | false | 10m"],
        );
    }
}
