//! The options that say what a worker may offer. Never an entitlement to more than the options name.

use clap::Args;
use muster_protocol::{
    GroupName,
    entitlement::{ANY, Allowed, Entitlement},
    lease::LeaseTiming,
};

/// What a worker may offer to tasks.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What the worker may offer")]
pub struct EntitlementArgs {
    /// A group that it may belong to; `*` for any (repeatable) [default: default]
    #[arg(long = "group", value_name = "NAME", value_parser = group)]
    groups: Vec<String>,
    /// A label that it may have; `KEY=*` for any value, `*` for any label (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<String>,
    /// A secret that it may offer; `*` for any (repeatable)
    #[arg(long = "secret", value_name = "NAME")]
    secrets: Vec<String>,
    /// The most tasks at once [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// The most memory of one run, in MiB [default: any size]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=4096))]
    memory_mib: Option<u64>,
    /// The longest lease that it may ask for: `standard`, `fast` or `roaming` [default: any]
    #[arg(long, value_name = "PROFILE")]
    lease: Option<LeaseTiming>,
}

impl EntitlementArgs {
    /// What the options entitle to.
    pub fn entitlement(&self) -> Entitlement {
        let names = |names: &[String]| Allowed(names.iter().cloned().collect());
        let mut groups = names(&self.groups);
        if self.groups.is_empty() {
            groups.0.insert(GroupName::default().to_string());
        }
        Entitlement {
            groups,
            labels: names(&self.labels),
            secrets: names(&self.secrets),
            slots: self.slots,
            memory: self.memory_mib.map(|mib| mib * 1024 * 1024),
            wait_ms: self.lease.map(|lease| lease.master().as_millis() as u64),
            ..Entitlement::default()
        }
    }
}

fn group(text: &str) -> Result<String, String> {
    if text == ANY {
        return Ok(text.into());
    }
    let name: GroupName = text.parse().map_err(|error| format!("{error}"))?;
    Ok(name.to_string())
}

fn label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.into()),
        None if text == ANY => Ok(text.into()),
        _ => Err("a label is written KEY=VALUE".into()),
    }
}
