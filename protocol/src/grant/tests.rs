//! What each rule allows, and each policy denies.

use super::*;
use crate::{Digest, signature::KeyId};
use alloc::vec;

fn rules(texts: &[&str]) -> BTreeSet<HttpRule> {
    texts.iter().map(|text| text.parse().expect("a rule")).collect()
}

#[test]
fn a_rule_is_read_and_written_the_same() {
    for text in [
        "*",
        "*:*",
        "example.com",
        "*.example.com:8443",
        "10.0.0.5:8080",
        "10.0.0.0/8",
        "[fd00::]/8:*",
        "[::1]:9000",
        "localhost:1",
    ] {
        assert_eq!(text.parse::<HttpRule>().map(|rule| rule.to_string()).as_deref(), Ok(text));
    }
    for (text, same) in [
        ("::1", "[::1]"),
        ("API.Example.com.", "api.example.com"),
        ("10.0.0.0.", "10.0.0.0"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("[::ffff:10.0.0.0]/104", "10.0.0.0/8"),
    ] {
        assert_eq!(text.parse::<HttpRule>().expect("a rule").to_string(), same);
    }
    for bad in [
        "",
        ":80",
        "http://a",
        "a/b",
        "a:0",
        "a:70000",
        "a b",
        "*.",
        "*.*.com",
        "a..b",
        "10.0.0.0/33",
        "10.0.0.0/x",
        "[::ffff:10.0.0.0]/95",
        "user@host",
        "a:",
    ] {
        assert!(bad.parse::<HttpRule>().is_err(), "{bad}");
    }
}

#[test]
fn a_rule_names_its_ports() {
    for (text, ports) in
        [("example.com", Some(vec![80, 443])), ("10.0.0.0/8:9000", Some(vec![9000])), ("*:*", None)]
    {
        assert_eq!(text.parse().map(|rule: HttpRule| rule.ports()), Ok(ports), "{text}");
    }
}

#[test]
fn a_request_goes_only_where_it_is_allowed() {
    let rows: &[(&[&str], &str, u16, bool)] = &[
        (&["example.com"], "example.com", 443, true),
        (&["example.com"], "EXAMPLE.com.", 80, true),
        (&["example.com"], "example.com", 8080, false),
        (&["example.com:8080"], "example.com", 8080, true),
        (&["example.com:8080"], "example.com", 443, false),
        (&["example.com"], "api.example.com", 443, false),
        (&["*.example.com"], "api.example.com", 443, true),
        (&["*.example.com"], "example.com", 443, false),
        (&["*.example.com"], "badexample.com", 443, false),
        (&["*"], "anything.org", 443, true),
        (&["*"], "localhost", 80, false),
        (&["*"], "93.184.216.34", 80, true),
        (&["*"], "10.0.0.1", 80, false),
        (&["*"], "[::1]", 80, false),
        (&["*"], "[::ffff:127.0.0.1]", 80, false),
        (&["example.com"], "93.184.216.34", 80, false),
        (&["10.0.0.0/8:*"], "10.1.2.3", 1234, true),
        (&["10.0.0.0/8:*"], "11.1.2.3", 1234, false),
        (&["[::1]:9"], "[::1]", 9, true),
        (&["localhost:9"], "127.0.0.1", 9, true),
        (&[], "example.com", 443, false),
    ];
    for (allowed, host, port, expected) in rows {
        assert_eq!(may_ask(&rules(allowed), host, *port), *expected, "{allowed:?} {host}:{port}");
    }
}

/// A name that someone else controls must not lead into the network of the worker.
#[test]
fn a_name_leads_to_private_addresses_only_where_they_are_named() {
    let reach = |allowed: &[&str], address: &str| {
        may_reach(&rules(allowed), address.parse().expect("an address"), 80, false)
    };
    assert!(reach(&["example.com"], "93.184.216.34"));
    assert!(reach(&["example.com"], "2606:2800:220:1::1"));
    for private in [
        "127.0.0.1",
        "10.0.0.1",
        "172.31.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "168.63.129.16",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ] {
        assert!(!reach(&["example.com", "*"], private), "{private}");
    }
    assert!(reach(&["printer.local", "192.168.1.7"], "192.168.1.7"));
    assert!(!reach(&["printer.local", "192.168.1.7"], "192.168.1.8"));
    assert!(reach(&["localhost"], "127.0.0.1") && reach(&["localhost"], "::1"));
}

#[test]
fn a_policy_covers_what_it_contains() {
    let rows = [
        ("*", "example.com", true),
        ("*", "*.example.com", true),
        ("*", "example.com:8080", false),
        ("*:*", "example.com:8080", true),
        ("*", "10.0.0.1", false),
        ("*", "0.0.0.0/0", false),
        ("*", "localhost", false),
        ("*", "*:*", false),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "*.a.example.com", true),
        ("*.example.com", "*", false),
        ("a.com", "b.com", false),
        ("10.0.0.0/8", "10.1.0.0/16", true),
        ("10.1.0.0/16", "10.0.0.0/8", false),
        ("10.0.0.0/8:80", "10.0.0.1", false),
        ("10.0.0.0/8", "10.0.0.1:443", true),
        ("localhost:*", "localhost:9", true),
    ];
    for (mine, asked, expected) in rows {
        let [mine, asked] = [mine, asked].map(|text| text.parse::<HttpRule>().expect("a rule"));
        assert_eq!(mine.covers(&asked), expected, "{mine} covers {asked}");
    }
}

#[test]
fn each_denial_is_named() {
    let none = Policy { env: false, random: false, ..Policy::default() };
    let default = Grants::default();
    let rows = vec![
        (Grants { env: [("A".into(), "1".into())].into(), ..default.clone() }, "variables"),
        (Grants { secrets: ["KEY".into()].into(), ..default.clone() }, "no secret KEY"),
        (Grants { http: rules(&["a.com"]), ..default.clone() }, "HTTP to a.com"),
        (Grants { dir_bytes: 1, ..default.clone() }, "scratch"),
        (Grants { clock_ns: 1, ..default.clone() }, "clock of 1000 ns"),
        (Grants { random: true, ..default.clone() }, "random"),
    ];
    for (grants, word) in rows {
        let denial = none.denies(&grants.requested(MODULE, None)).expect("denied");
        assert!(denial.contains(word), "{denial}");
        let all = Policy {
            env: true,
            secrets: ["KEY".into()].into(),
            secret_modules: Default::default(),
            signers: Default::default(),
            http: rules(&["*:*"]),
            dir_bytes: 1,
            clock_ns: 1,
            random: true,
        };
        assert_eq!(all.denies(&grants.requested(MODULE, None)), None, "{grants}");
    }
    assert_eq!(none.denies(&default.requested(MODULE, None)), None, "nothing is asked for");
    let coarse = Grants { clock_ns: 10_000_000, ..default };
    assert_eq!(
        none.denies(&coarse.requested(MODULE, None)),
        None,
        "coarser than the default is never denied"
    );
}

const MODULE: Digest = Digest([1; 32]);
const SIGNER: KeyId = KeyId([1; 8]);

#[test]
fn a_secret_is_given_only_to_the_modules_that_its_policy_names() {
    let rule = |digests: &[Digest], signers: &[KeyId]| ModuleRule {
        digests: digests.iter().copied().collect(),
        signers: signers.iter().copied().collect(),
    };
    let asks = Grants { secrets: ["KEY".into()].into(), ..Grants::default() };
    let (other, stranger) = (Digest([2; 32]), KeyId([2; 8]));
    for (rule, module, signer, is_given) in [
        (None, other, None, true),
        (Some(rule(&[MODULE], &[])), MODULE, None, true),
        (Some(rule(&[MODULE], &[])), other, Some(SIGNER), false),
        (Some(rule(&[], &[SIGNER])), other, Some(SIGNER), true),
        (Some(rule(&[], &[SIGNER])), MODULE, Some(stranger), false),
        (Some(rule(&[], &[SIGNER])), MODULE, None, false),
        (Some(rule(&[MODULE], &[SIGNER])), MODULE, Some(stranger), true),
        (Some(rule(&[], &[])), MODULE, Some(SIGNER), false),
    ] {
        let policy = Policy {
            secrets: ["KEY".into()].into(),
            secret_modules: rule.clone().map(|rule| ("KEY".into(), rule)).into_iter().collect(),
            ..Policy::default()
        };
        let denial = policy.denies(&asks.requested(module, signer));
        assert_eq!(denial.is_none(), is_given, "{rule:?} {module:?} {signer:?}: {denial:?}");
        assert!(denial.is_none_or(|text| text.contains("keeps the secret KEY for other modules")));
        let nothing = Grants::default().requested(module, signer);
        assert_eq!(policy.denies(&nothing), None, "a task without the secret runs");
    }
}

#[test]
fn a_policy_demands_a_signature_of_each_module() {
    let policy = Policy { signers: [SIGNER].into(), ..Policy::default() };
    for (signer, runs) in [(None, false), (Some(KeyId([2; 8])), false), (Some(SIGNER), true)] {
        let denial = policy.denies(&Grants::default().requested(MODULE, signer));
        assert_eq!(denial.is_none(), runs, "{signer:?}: {denial:?}");
        let says = |text: String| text.contains("signed by one of the keys 0101010101010101");
        assert!(denial.is_none_or(says));
    }
    assert_eq!(policy.denies(&RequestedGrants::default()), None, "it is not asked about a module");
}

#[test]
fn what_cannot_be_granted_is_refused() {
    let env = |name: &str, value: &str| Grants {
        env: [(name.into(), value.into())].into(),
        ..Grants::default()
    };
    assert_eq!(env("A", "1").check(), Ok(()));
    for bad in [
        env("", "1"),
        env("A=B", "1"),
        env("A", "\0"),
        env("A", &"x".repeat(TEXT_MAX + 1)),
        Grants { secrets: ["A".into()].into(), ..env("A", "1") },
        Grants { dir_bytes: SCRATCH_MAX + 1, ..Grants::default() },
        Grants { clock_ns: 0, ..Grants::default() },
    ] {
        assert!(bad.check().is_err(), "{bad}");
    }
}
