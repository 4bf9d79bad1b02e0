//! Creation: what the server fills in and discards, names that are generated, and the race for names and claims.

use minisvc_store::Key;
use serde_json::{Value, json};
use uuid::Uuid;

use super::commit::{Lost, Outcome};
use super::{Writer, Written};
use crate::error::ApiError;
use crate::{meta, resources, stored};

/// How many generated names are tried.
const NAMES: usize = 8;
/// How often a lost race for an address, a port or the namespace is run again. An address that the client asked for is
/// refused in the next run, and one that we chose is chosen anew (S-103, S-115).
const RACES: usize = 64;

/// What clients may send but not decide.
const DISCARDED: [&str; 6] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"];

impl Writer<'_> {
    /// Stores a new object.
    pub(crate) async fn create(&self, mut object: Value) -> Result<Written, ApiError> {
        self.check_address(&mut object)?;
        if !meta::text(&object, "resourceVersion").is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        meta::unset(&mut object, "resourceVersion");
        for key in DISCARDED {
            meta::unset(&mut object, key);
        }
        if self.resource.has_status
            && let Some(fields) = object.as_object_mut()
        {
            fields.shift_remove("status");
        }
        let generate = meta::text(&object, "name").is_empty().then(|| meta::text(&object, "generateName").to_owned());
        let generate = generate.filter(|base| !base.is_empty());
        let (mut names, mut races) = (0, 0);
        // Made more than once only for the sake of its name, or of what it claims.
        let may_repeat = generate.is_some() || self.resource.allocate.is_some();
        loop {
            let mut attempt = if may_repeat { object.clone() } else { std::mem::take(&mut object) };
            if let Some(base) = &generate {
                let name = meta::generated_name(base, |bound| rand::random_range(0..bound));
                meta::set(&mut attempt, "name", name);
            }
            match self.create_once(attempt).await {
                Ok(written) => return Ok(written),
                Err(Lost::Failed(ApiError::AlreadyExists(_))) if generate.is_some() && names + 1 < NAMES => names += 1,
                Err(Lost::Failed(error)) => return Err(error),
                Err(Lost::Race(_)) if may_repeat && races < RACES => races += 1,
                Err(Lost::Race(key)) => return Err(ApiError::internal(format!("{key} is fought over too hard"))),
            }
        }
    }

    async fn create_once(&self, mut object: Value) -> Result<Written, Lost> {
        let name = meta::text(&object, "name").to_owned();
        let open_namespace = || match self.namespace {
            "" => Ok(None),
            namespace => self.server.open_namespace(self.resource, namespace, &name).map(Some).map_err(Lost::Failed),
        };
        let mut namespace = open_namespace()?;
        (self.resource.default)(&mut object);
        // Before the kind prepares the object, because a Job's selector is made of it.
        meta::set(&mut object, "uid", Uuid::new_v4().to_string());
        (self.resource.prepare)(&mut object, None);
        (self.resource.complete)(&mut object, &|storage, name| {
            let record = self.server.store.get(&Key::new(storage, self.namespace, name))?;
            Some(stored::decode(&record.value))
        });
        self.record_manager(&mut object, None);
        meta::set(&mut object, "creationTimestamp", meta::timestamp(self.now));
        if self.resource.has_generation {
            meta::set(&mut object, "generation", json!(1));
        }
        let exists = || Lost::Failed(ApiError::AlreadyExists(Box::new(self.resource.target(&name))));
        let key = crate::server::Server::key(self.resource, self.namespace, &name);
        if self.server.store.get(&key).is_some() {
            return Err(exists());
        }
        let plan = self.allocate(Some(&mut object), None).map_err(Lost::Failed)?;
        let mut errors = resources::meta::validate(&object, None, self.resource.name_rule);
        errors.extend((self.resource.validate)(&object, None));
        if !errors.is_empty() {
            return Err(Lost::Failed(self.resource.invalid(&name, errors)));
        }
        self.admit(&object, None).map_err(Lost::Failed)?;
        let warnings = (self.resource.warnings)(&object, None);
        let object = self.to_stored(object);
        let mut races = 0;
        loop {
            let of_namespace = |lost: &Key| namespace.as_ref().is_some_and(|record| record.key == *lost);
            match self.commit(Outcome::Created { namespace: namespace.as_deref() }, &object, &plan).await {
                Ok(text) => return Ok(Written { text, created: true, warnings }),
                Err(Lost::Race(lost)) if lost == key => return Err(exists()),
                // It changed, which makes no difference to the object as long as it does not terminate.
                Err(Lost::Race(lost)) if of_namespace(&lost) && races < RACES => races += 1,
                Err(lost) => return Err(lost),
            }
            namespace = open_namespace()?;
        }
    }
}
