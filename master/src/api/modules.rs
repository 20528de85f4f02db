//! The endpoints about modules: names and versions for digests. Never names a module that the master has
//! not inspected itself, whatever the client reports.

use super::{ApiRefusal, ApiResult, ApiServer, KNOWN_MAX, page};
use crate::{
    inbox::{Input, Known},
    registry::{Fact, SessionFact},
};
use muster_protocol::{
    api::{
        ErrorCode, FindModule, ListAfter, ModuleEntry, ModuleVersion, Modules, RegisterModule,
        RemoveModule,
    },
    fleet::Fleet,
    id::is_name,
    limit::MODULE_SIZE_MAX,
    message::ObjectStore,
    signature::Signature,
    task::ModuleRef,
};
use muster_wire::clock;

/// Versions kept of a name. The oldest are removed first; tasks that use them go on, because tasks name
/// digests.
const VERSIONS_MAX: usize = 100;

/// The most bytes of the versions of a name that are gone, as JSON. With numbers for versions these are some
/// 60,000 of them.
const REMOVED_BYTES_MAX: usize = 512 * 1024;

/// Larger numbers are not counted on from: somebody chose them.
const NUMBER_MAX: u64 = 1 << 53;

impl ApiServer {
    pub(super) async fn modules(&self, asked: ListAfter) -> ApiResult<Modules> {
        let follows = move |entry: &&ModuleEntry| {
            asked.after.as_ref().is_none_or(|after| entry.name > *after)
        };
        let look =
            |_: &Fleet, known: &Known| known.modules.values().filter(follows).map(shown).collect();
        let (modules, more) = page(self.look(look).await?, |entry| entry.name.clone());
        Ok(Modules { modules, more })
    }

    /// The module that a name means now. It means the same for as long as it is asked for by its version.
    pub(super) async fn find_module(&self, asked: FindModule) -> ApiResult<ModuleVersion> {
        let version = asked.version.as_deref();
        let found = self.entry(&asked.name).await?;
        let found = found.and_then(|entry| entry.version(version).cloned());
        found.ok_or_else(|| missing(&asked.name, version))
    }

    /// The versions of a name, as the registry has them now.
    async fn entry(&self, name: &str) -> ApiResult<Option<ModuleEntry>> {
        if !is_name(name) {
            return Ok(None);
        }
        let found = self.registry.read_module(name).await.map_err(ApiRefusal::unavailable)?;
        Ok(found.map(|(entry, _)| entry))
    }

    /// Refuses a name for a digest that is not one of its versions. Otherwise lists would show a wrong
    /// name. Returns the signature, if the name says a version that has one.
    pub(super) async fn must_be_named(&self, module: &ModuleRef) -> ApiResult<Option<Signature>> {
        let Some(text) = &module.name else { return Ok(None) };
        let known = (text.clone(), module.digest);
        if let Ok(named) = self.named.lock()
            && let Some(signature) = named.get(&known)
        {
            return Ok(signature.clone());
        }
        let (name, version) = match text.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (text.as_str(), None),
        };
        let found = self.entry(name).await?;
        let found = found.as_ref().and_then(|entry| entry.find(version, module.digest));
        let Some(found) = found else {
            return Err(ApiRefusal::bad(format!(
                "{text:?} does not name the module {}: see `muster module ls`",
                module.digest
            )));
        };
        // Which version a bare name means changes, and with it the signature.
        let signature = found.signature.clone().filter(|_| version.is_some());
        if let Ok(mut named) = self.named.lock() {
            if named.len() >= KNOWN_MAX {
                named.clear();
            }
            named.insert(known, signature.clone());
        }
        Ok(signature)
    }

    pub(super) async fn register(&self, asked: RegisterModule) -> ApiResult<ModuleVersion> {
        self.must_have(ObjectStore::Modules, asked.digest, None).await?;
        let _place = self.whole_object().await?;
        let bytes = match self.registry.fetch(ObjectStore::Modules, asked.digest).await {
            Ok(Some(bytes)) if bytes.len() as u64 <= MODULE_SIZE_MAX => bytes,
            Ok(Some(_)) => {
                return Err(ApiRefusal::bad(format!("a module may have {MODULE_SIZE_MAX} bytes")));
            }
            Ok(None) => {
                return Err(ApiRefusal::new(
                    ErrorCode::NotFound,
                    "the module is not stored any more",
                ));
            }
            Err(error) => return Err(ApiRefusal::unavailable(error)),
        };
        let size = bytes.len() as u64;
        // On another thread: to inspect a large module takes a while.
        let inspecting = tokio::task::spawn_blocking(move || muster_module::inspect(&bytes));
        let info = inspecting.await.map_err(ApiRefusal::unavailable)?;
        let info = info.map_err(|refusal| ApiRefusal::bad(refusal.to_string()))?;
        let mut version = ModuleVersion {
            version: String::new(),
            digest: asked.digest,
            size,
            kind: info.kind.to_string(),
            pushed_at: clock::wall(),
            signature: asked.signature,
            unknown: Default::default(),
        };
        self.change(&asked.name, |entry| {
            let wanted = asked.version.clone();
            version.version = match wanted {
                Some(wanted) => wanted,
                // The same bytes under the same name are the same version, unless they are signed anew.
                None => match entry.versions.last() {
                    Some(last) if is_same(last, &version) => last.version.clone(),
                    _ => next_number(entry),
                },
            };
            if let Some(same) = entry.versions.iter().find(|old| old.version == version.version) {
                let differs = match same.digest == version.digest {
                    true if is_same(same, &version) => return Ok(()),
                    true => "another signature, or none",
                    false => "other bytes",
                };
                return Err(ApiRefusal::bad(format!(
                    "{}:{} exists with {differs}; versions do not change: choose another",
                    asked.name, version.version
                )));
            }
            if entry.removed.contains(&version.version) {
                return Err(ApiRefusal::bad(format!(
                    "{}:{} was removed; a version does not come back: choose another",
                    asked.name, version.version
                )));
            }
            if entry.removed.iter().map(|old| old.len() + 3).sum::<usize>() > REMOVED_BYTES_MAX {
                return Err(ApiRefusal::bad(format!(
                    "{} has had {} versions that are gone: choose another name",
                    asked.name,
                    entry.removed.len()
                )));
            }
            if entry.versions.len() >= VERSIONS_MAX {
                let oldest = entry.versions[0].version.clone();
                entry.retain(|old| old.version != oldest);
            }
            entry.versions.push(version.clone());
            Ok(())
        })
        .await?;
        Ok(version)
    }

    pub(super) async fn remove(&self, asked: RemoveModule) -> ApiResult<Modules> {
        let missing = || missing(&asked.name, asked.version.as_deref());
        if !is_name(&asked.name) {
            return Err(missing());
        }
        self.change(&asked.name, |entry| {
            let before = entry.versions.len();
            entry.retain(|old| {
                asked.version.as_ref().is_some_and(|version| *version != old.version)
            });
            if entry.versions.len() == before { Err(missing()) } else { Ok(()) }
        })
        .await?;
        self.modules(ListAfter::default()).await
    }

    /// Changes a name's versions, and lets this master know at once.
    async fn change(
        &self,
        name: &str,
        mut change: impl FnMut(&mut ModuleEntry) -> ApiResult<()>,
    ) -> ApiResult<()> {
        let changed = self.registry.change_module(name, |known| {
            let mut entry = known.cloned().unwrap_or_else(|| ModuleEntry::new(name));
            change(&mut entry)?;
            Ok::<_, ApiRefusal>(entry)
        });
        let fact = Fact::ModuleSeen(changed.await?);
        self.tell(Input::Registry(SessionFact(self.registry.session(), fact))).await
    }
}

fn missing(name: &str, version: Option<&str>) -> ApiRefusal {
    let version = version.map(|version| format!(":{version}")).unwrap_or_default();
    ApiRefusal::new(ErrorCode::NotFound, format!("there is no module {name}{version}"))
}

/// Whether a version has the bytes of a new one, and its signature if that has one.
fn is_same(old: &ModuleVersion, new: &ModuleVersion) -> bool {
    old.digest == new.digest && (new.signature.is_none() || new.signature == old.signature)
}

/// An entry as lists show it: without the versions that are gone.
fn shown(entry: &ModuleEntry) -> ModuleEntry {
    let (versions, unknown) = (entry.versions.clone(), entry.unknown.clone());
    ModuleEntry { versions, unknown, ..ModuleEntry::new(&entry.name) }
}

/// The largest numeric version that there ever was, plus one.
fn next_number(entry: &ModuleEntry) -> String {
    let versions = entry.versions.iter().map(|old| &old.version).chain(&entry.removed);
    let numbers = versions.filter_map(|old| old.parse::<u64>().ok());
    (numbers.filter(|number| *number < NUMBER_MAX).max().unwrap_or(0) + 1).to_string()
}
