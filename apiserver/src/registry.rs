//! What a kind is: one [`Resource`] value of names, scope, columns and plain functions, and the [`Registry`] that finds it.
//!
//! The values themselves are in `resources/`, one file per kind; what is done with them is in the handlers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;

pub use crate::error::{ApiError, Cause, FieldError, Target};

/// Everything the handlers need to know about a kind.
///
/// Write kinds as `Resource { kind: "Service", …, ..Resource::BASE }`.
pub struct Resource {
    /// API group, empty for core.
    pub group: &'static str,
    /// API version, such as `v1`.
    pub version: &'static str,
    /// Kind, such as `Service`.
    pub kind: &'static str,
    /// Plural resource name, as in the path.
    pub plural: &'static str,
    /// Singular resource name.
    pub singular: &'static str,
    /// What kubectl also calls it, such as `svc`.
    pub short_names: &'static [&'static str],
    /// `all` puts it into `kubectl get all`.
    pub categories: &'static [&'static str],
    /// False for cluster-scoped kinds.
    pub namespaced: bool,
    /// Writes to the object leave `status` alone, and writes to `/status` change nothing else.
    pub has_status: bool,
    /// `metadata.generation` is kept.
    pub has_generation: bool,
    /// What is served below an object.
    pub subresources: &'static [Subresource],
    /// What a name must look like.
    pub name_rule: NameRule,
    /// PUT of an absent object creates it.
    pub allow_create_on_update: bool,
    /// PUT without a resourceVersion overwrites whatever is there.
    pub allow_unconditional_update: bool,
    /// DELETE answers with the object instead of a Status.
    pub returns_deleted_object: bool,
    /// A deletion that says nothing about dependants leaves them (P-086).
    pub orphans_dependents: bool,
    /// Why there are none, and nobody can make one: the kind is served for reading, so that clients find out by a list. It needs
    /// no schema.
    pub why_none: Option<&'static str>,
    /// What everyone who asks for the kind is told, readers too (S-072).
    pub deprecated: Option<&'static str>,
    /// Kinds that end gracefully: the grace in seconds for an object and what the client asked for; 0 removes at once.
    pub graceful: Option<fn(&Value, Option<i64>) -> i64>,
    /// Called when deletion begins but something still holds the object (`deletionTimestamp` is already set).
    pub begin_delete: Option<fn(&mut Value)>,
    /// Something besides `metadata.finalizers` keeps a terminating object, such as a Namespace's `spec.finalizers`.
    pub held: fn(&Value) -> bool,
    /// Values of the field selectors beyond `metadata.name` and `metadata.namespace`.
    pub selectable: fn(&Value) -> Vec<(&'static str, String)>,
    /// The legal field selectors beyond `metadata.name` and `metadata.namespace`.
    pub selectable_names: &'static [&'static str],
    /// Table columns; the first is the name column.
    pub columns: &'static [Column],
    /// The cells of one object, as many as `columns`.
    pub row: fn(&Value, now: jiff::Timestamp) -> Vec<Value>,
    /// What a Table says of a whole row, such as that a pod has run to its end.
    pub row_conditions: fn(&Value) -> Vec<Value>,
    /// Static defaulting, idempotent; on every write, and when an older state is opened that lacks what is new (S-033).
    pub default: fn(&mut Value),
    /// Before validation: drops, clears and carries over fields. `old` is `None` on create.
    pub prepare: fn(new: &mut Value, old: Option<&Value>),
    /// After `prepare` of a new object: what depends on another object of its namespace.
    pub complete: fn(new: &mut Value, find: &Find<'_>),
    /// The rules of the kind. Metadata common to all kinds is already checked.
    pub validate: fn(new: &Value, old: Option<&Value>) -> Vec<FieldError>,
    /// The rules for a write to `/status`.
    pub validate_status: fn(new: &Value, old: &Value) -> Vec<FieldError>,
    /// Texts for `Warning` headers.
    pub warnings: fn(new: &Value, old: Option<&Value>) -> Vec<String>,
    /// What a write takes from and gives back to the pools of addresses and ports.
    pub allocate: Option<&'static dyn Allocate>,
    /// Set when objects are kept in the form of another kind (both Event groups share one store, A-161).
    pub stored_as: Option<StoredAs>,
}

/// Finds another object of the same namespace by where its kind is stored and its name.
pub type Find<'a> = dyn Fn(&str, &str) -> Option<Value> + 'a;

impl Resource {
    /// The values most kinds share; names are empty.
    pub const BASE: Self = Self {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        has_status: false,
        has_generation: false,
        subresources: &[],
        name_rule: NameRule::Subdomain,
        allow_create_on_update: false,
        allow_unconditional_update: true,
        returns_deleted_object: false,
        orphans_dependents: false,
        why_none: None,
        deprecated: None,
        graceful: None,
        begin_delete: None,
        held: |_| false,
        selectable: |_| Vec::new(),
        selectable_names: &[],
        columns: crate::table::NAME_AND_CREATED,
        row: crate::table::name_and_created,
        row_conditions: |_| Vec::new(),
        default: |_| (),
        prepare: |_, _| (),
        complete: |_, _| (),
        validate: |_, _| Vec::new(),
        validate_status: |_, _| Vec::new(),
        warnings: |_, _| Vec::new(),
        allocate: None,
        stored_as: None,
    };

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        group_version(self.group, self.version)
    }

    /// What messages about the object `name` refer to.
    pub fn target(&self, name: &str) -> Target {
        Target { group: self.group, resource: self.plural, name: name.to_owned() }
    }

    /// A 422 about the object `name`.
    pub fn invalid(&self, name: &str, errors: Vec<FieldError>) -> ApiError {
        ApiError::Invalid { group: self.group, kind: self.kind, name: name.to_owned(), errors }
    }

    /// The resource part of the store's keys: `pods`, `replicasets.apps`.
    pub fn storage(&self) -> String {
        match (&self.stored_as, self.group) {
            (Some(other), _) => other.storage.to_owned(),
            (None, "") => self.plural.to_owned(),
            (None, group) => format!("{}.{group}", self.plural),
        }
    }

    /// The subresource served under this path segment.
    pub fn subresource(&self, segment: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.segment() == segment)
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}/{}", self.plural, self.group, self.version)
    }
}

/// `v1` for core, else `GROUP/VERSION`.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// A kind whose objects are kept in the form of another one.
#[derive(Clone, Copy)]
pub struct StoredAs {
    /// The resource part of the store's keys.
    pub storage: &'static str,
    /// From the form served here to the stored form, `kind` and `apiVersion` included.
    pub to_stored: fn(&mut Value),
    /// From the stored form to the form served here, `kind` and `apiVersion` included.
    pub from_stored: fn(&mut Value),
}

/// What is served below an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subresource {
    /// The status half of the object.
    Status,
    /// The number of replicas as `autoscaling/v1 Scale`.
    Scale(ScalePaths),
    /// A container's output.
    Log,
    /// Assignment of a pod to a node.
    Binding,
    /// Deletion that asks disruption budgets first.
    Eviction,
    /// A ServiceAccount's token.
    Token,
    /// A Namespace's `spec.finalizers`.
    Finalize,
    /// A process in a container.
    Exec,
    /// A container's own process.
    Attach,
    /// Connections to a pod's ports.
    PortForward,
    /// Requests that are passed on.
    Proxy,
}

impl Subresource {
    /// Its path segment.
    pub fn segment(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale(_) => "scale",
            Self::Log => "log",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Token => "token",
            Self::Finalize => "finalize",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
        }
    }
}

/// Where the parts of a Scale are in the object, as JSON pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalePaths {
    /// Wished replicas, such as `/spec/replicas`.
    pub spec_replicas: &'static str,
    /// Observed replicas, such as `/status/replicas`.
    pub status_replicas: &'static str,
    /// A LabelSelector object or a plain label map, such as `/spec/selector`.
    pub selector: &'static str,
}

/// What the name of an object must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, at most 253 characters.
    Subdomain,
    /// RFC 1123 label, at most 63 characters.
    Label1123,
    /// RFC 1035 label: as 1123, but starts with a letter (S-038).
    Label1035,
    /// Anything that fits a path segment (roles and bindings).
    PathSegment,
    /// A canonical IP address (IPAddress objects): the kind's own `validate` checks it.
    IpAddress,
}

/// One column of a Table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Heading as kubectl will upper-case it.
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` on the name column, else empty.
    pub format: &'static str,
    /// One sentence on what the cell tells.
    pub description: &'static str,
    /// 0 always shown, 1 with `-o wide`.
    pub priority: u8,
}

impl Column {
    /// The name column every table begins with.
    pub const NAME: Self = Self {
        name: "Name",
        kind: "string",
        format: "name",
        description: "Name of the object, unique in its namespace.",
        priority: 0,
    };
    /// The age column: fill it with [`crate::table::age`].
    pub const AGE: Self = Self {
        name: "Age",
        kind: "string",
        format: "",
        description: "Time since the object was created.",
        priority: 0,
    };

    /// A text column that is always shown.
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "string", format: "", description, priority: 0 }
    }

    /// An integer column that is always shown.
    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "integer", format: "", description, priority: 0 }
    }

    /// The same column, shown with `-o wide` only.
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// What a write takes from the pools; consulted on create, update (status excepted) and removal.
///
/// It runs after defaulting and `prepare`, and before metadata and the rules of the kind are checked, so that its objections
/// come alone (S-034). When somebody else is faster with a claim it runs again from the start.
pub trait Allocate: Sync {
    /// Decides what `new` needs beyond `old` and writes it into `new`; on removal `new` is `None`, on create `old`.
    ///
    /// # Errors
    /// The answer for the client when something asked for is taken or the pool is exhausted.
    fn plan(
        &self,
        new: Option<&mut Value>,
        old: Option<&Value>,
        pools: &Pools<'_>,
        dry_run: bool,
    ) -> Result<AllocationPlan, ApiError>;
}

/// One thing that only one object may hold at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A Service's virtual address.
    ClusterIp(IpAddr),
    /// A number from the node port range, whatever the protocol (S-118).
    NodePort(u16),
}

impl Claim {
    /// The store's resource for records of this sort.
    pub fn storage(&self) -> &'static str {
        match self {
            Self::ClusterIp(_) => "+clusterips",
            Self::NodePort(_) => "+nodeports",
        }
    }

    /// The record's name.
    pub fn name(&self) -> String {
        match self {
            Self::ClusterIp(address) => address.to_string(),
            Self::NodePort(port) => port.to_string(),
        }
    }
}

/// What a write takes and gives back, in the same transaction as the object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllocationPlan {
    /// To be taken; the transaction fails when another object has been faster.
    pub take: Vec<Claim>,
    /// To be given back.
    pub give: Vec<Claim>,
}

/// How addresses and ports of Services are handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Service address ranges, at most one per family; the first is the primary family.
    pub service_cidrs: Vec<IpNet>,
    /// Node ports.
    pub node_ports: RangeInclusive<u16>,
}

/// Read access to what is taken, and the dice for dynamic choices.
pub struct Pools<'a> {
    /// The ranges.
    pub config: &'a PoolConfig,
    /// The ranges that addresses may be taken from now: those of the ready ServiceCIDRs (S-222, S-223).
    pub ranges: Vec<IpNet>,
    pub(crate) taken: &'a (dyn Fn(&Claim) -> bool + 'a),
    pub(crate) random: &'a (dyn Fn(u64) -> u64 + 'a),
}

impl<'a> Pools<'a> {
    /// Pools over the configured ranges, any notion of taken and any dice; `random(n)` yields a number below `n`, and is
    /// only asked with `n > 0`.
    pub fn new(
        config: &'a PoolConfig,
        taken: &'a (dyn Fn(&Claim) -> bool + 'a),
        random: &'a (dyn Fn(u64) -> u64 + 'a),
    ) -> Self {
        Self { config, ranges: config.service_cidrs.clone(), taken, random }
    }

    /// Some object holds this claim.
    pub fn is_taken(&self, claim: &Claim) -> bool {
        (self.taken)(claim)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn random(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { (self.random)(bound) }
    }
}

/// All kinds served, in discovery order: core first, and the preferred version of a group first.
#[derive(Debug, Clone)]
pub struct Registry {
    resources: Vec<Arc<Resource>>,
    by_path: BTreeMap<(&'static str, &'static str, &'static str), usize>,
    /// The kinds that are stored in their own form.
    by_storage: BTreeMap<String, usize>,
}

impl Registry {
    /// Takes the kinds in the order in which discovery lists them.
    pub fn new(resources: Vec<Resource>) -> Self {
        let resources: Vec<Arc<Resource>> = resources.into_iter().map(Arc::new).collect();
        let by_path = resources.iter().enumerate().map(|(i, r)| ((r.group, r.version, r.plural), i)).collect();
        let own = resources.iter().enumerate().filter(|(_, r)| r.stored_as.is_none());
        let by_storage = own.map(|(i, r)| (r.storage(), i)).collect();
        Self { resources, by_path, by_storage }
    }

    /// The kind served at this group, version and plural.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path.get(&(group, version, plural)).map(|index| &self.resources[*index])
    }

    /// The kind whose stored form this key resource holds.
    pub fn of_storage(&self, storage: &str) -> Option<&Arc<Resource>> {
        self.by_storage.get(storage).map(|index| &self.resources[*index])
    }

    /// Every kind.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }

    /// Group-versions in discovery order.
    pub fn group_versions(&self) -> Vec<(&'static str, &'static str)> {
        let mut seen = Vec::new();
        for resource in &self.resources {
            if !seen.contains(&(resource.group, resource.version)) {
                seen.push((resource.group, resource.version));
            }
        }
        seen
    }
}
