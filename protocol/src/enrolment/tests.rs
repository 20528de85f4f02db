//! Who may join, step by step, as masters and workers do it.

use super::*;
use crate::{GroupName, entitlement::Allowed};
use alloc::{string::ToString, vec::Vec};

const NOW: u64 = 1_800_000_000;

/// The keys for secrets of the workers with the keys 0 and 1; others tell none.
const RECIPIENTS: [&str; 2] = [
    "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq",
    "age1qgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpquuzgag",
];

fn name(text: &str) -> WorkerId {
    text.parse().expect("a name")
}

fn entitlement() -> Entitlement {
    Entitlement { groups: Allowed(["shops".to_string()].into()), ..Entitlement::default() }
}

fn invitation(worker: Option<&str>, uses: u32) -> Invitation {
    let secret = Digest([7; 32]);
    Invitation {
        id: invitation_id(secret),
        secret,
        worker: worker.map(name),
        entitlement: entitlement(),
        ends: NOW + 900,
        uses,
        approve: false,
        used_by: BTreeMap::new(),
        unknown: Unknown::default(),
    }
}

fn knock(worker: Option<&str>, key: u8) -> Knock {
    let recipient = RECIPIENTS.get(usize::from(key)).map(|text| text.parse().expect("a key"));
    Knock { secret: Digest([7; 32]), worker: worker.map(name), key: Digest([key; 32]), recipient }
}

/// The registry: an invitation, and the members.
struct Registry {
    invitation: Invitation,
    members: BTreeMap<WorkerId, Member>,
}

impl Registry {
    fn new(invitation: Invitation) -> Self {
        Registry { invitation, members: BTreeMap::new() }
    }

    /// Lets a worker knock until it has an answer. `Ok(None)` means that it has to wait.
    fn knock(&mut self, knock: &Knock, now: u64) -> Result<Option<Member>, Refused> {
        let name = self.invitation.name(knock)?;
        loop {
            match self.invitation.admit(knock, self.members.get(&name), now)? {
                Admission::Admit(invitation, member) => {
                    self.invitation = *invitation;
                    self.members.insert(name.clone(), member);
                }
                Admission::Certify(member) => return Ok(Some(member)),
                Admission::Wait(_) => return Ok(None),
            }
        }
    }

    fn revoke(&mut self, worker: &str, now: u64) {
        let known = self.members.get(&name(worker)).cloned();
        self.members.insert(name(worker), Member::revoked(name(worker), known, now));
    }
}

#[test]
fn a_token_lets_one_worker_in_and_is_used_then() {
    let mut registry = Registry::new(invitation(Some("shop-42"), 1));
    let member = registry.knock(&knock(None, 1), NOW).expect("invited").expect("at once");
    assert_eq!(
        (member.worker, member.entitlement, member.since),
        (name("shop-42"), entitlement(), NOW)
    );
    // Its answer was lost. It may come back after the end, too.
    assert!(matches!(registry.knock(&knock(None, 1), NOW + 10_000), Ok(Some(_))));
    assert_eq!(registry.invitation.uses, 0);
    // A stolen token.
    assert_eq!(registry.knock(&knock(None, 2), NOW), Err(Refused::Used));
    assert_eq!(registry.members[&name("shop-42")].key, Some(Digest([1; 32])));
}

#[test]
fn a_token_is_for_its_worker_its_time_and_its_secret() {
    let mut registry = Registry::new(invitation(Some("shop-42"), 1));
    let other = Registry::knock(&mut registry, &knock(Some("shop-43"), 1), NOW);
    assert_eq!(other, Err(Refused::Name(name("shop-42"))));
    let guessed = Knock { secret: Digest([8; 32]), ..knock(None, 1) };
    assert_eq!(registry.knock(&guessed, NOW), Err(Refused::Unknown));
    assert_eq!(registry.knock(&knock(None, 1), NOW + 900), Err(Refused::Ended));
    assert!(registry.members.is_empty());
    assert!(matches!(registry.knock(&knock(Some("shop-42"), 1), NOW + 899), Ok(Some(_))));
}

#[test]
fn a_token_for_many_takes_nobodys_name() {
    let mut registry = Registry::new(invitation(None, 2));
    assert_eq!(registry.knock(&knock(None, 1), NOW), Err(Refused::NoName));
    assert!(matches!(registry.knock(&knock(Some("a"), 1), NOW), Ok(Some(_))));
    assert_eq!(registry.knock(&knock(Some("a"), 2), NOW), Err(Refused::Taken(name("a"))));
    assert!(matches!(registry.knock(&knock(Some("b"), 2), NOW), Ok(Some(_))));
    assert_eq!(registry.knock(&knock(Some("c"), 3), NOW), Err(Refused::Used));
    // A worker that was revoked, though its certificate was made by hand.
    let mut registry = Registry::new(invitation(None, 2));
    registry.revoke("d", NOW);
    assert_eq!(registry.knock(&knock(Some("d"), 1), NOW), Err(Refused::Taken(name("d"))));
}

#[test]
fn an_operator_approves_a_worker() {
    let mut registry = Registry::new(Invitation { approve: true, ..invitation(Some("a"), 1) });
    assert_eq!(registry.knock(&knock(None, 1), NOW), Ok(None));
    assert_eq!(registry.knock(&knock(None, 1), NOW + 5), Ok(None));
    let member = registry.members.get_mut(&name("a")).expect("it waits");
    assert!(member.may_renew(Some(NOW), Digest([1; 32])).is_err());
    *member = member.clone().approved().expect("it waits");
    assert!(matches!(registry.knock(&knock(None, 1), NOW + 1_000), Ok(Some(_))));
}

#[test]
fn a_revoked_worker_is_out_until_it_is_invited_again() {
    let mut registry = Registry::new(invitation(Some("a"), 1));
    let first = registry.knock(&knock(None, 1), NOW).expect("invited").expect("at once");
    assert!(!first.revokes(Some(NOW)) && first.may_renew(Some(NOW), Digest([1; 32])).is_ok());
    registry.revoke("a", NOW + 100);
    let member = registry.members[&name("a")].clone();
    assert!(member.revokes(Some(NOW)) && member.revokes(Some(NOW + 100)) && member.revokes(None));
    assert!(!member.revokes(Some(NOW + 100 + CLOCKS_DIFFER_S + 1)), "made by hand afterwards");
    assert!(member.may_renew(Some(NOW), Digest([1; 32])).is_err());
    assert_eq!(member.clone().approved(), Err(Refused::Revoked(name("a"))));
    assert_eq!(registry.knock(&knock(None, 1), NOW + 101), Err(Refused::Revoked(name("a"))));
    // A second revocation does not shorten the first.
    registry.revoke("a", NOW);
    assert_eq!(registry.members[&name("a")].revoked, member.revoked);

    registry.invitation = invitation(Some("a"), 1);
    let again = registry.knock(&knock(None, 2), NOW + 101).expect("invited").expect("at once");
    assert!(!again.revokes(Some(again.since)), "its new certificate counts");
    assert!(again.revokes(Some(NOW)), "and the stolen one does not");
    assert!(again.may_renew(Some(again.since), Digest([2; 32])).is_ok());
    assert!(again.may_renew(Some(again.since), Digest([1; 32])).is_err(), "another key");
}

/// The stolen host has its key, and the token that once let it in.
#[test]
fn an_old_token_does_not_bring_back_a_worker_whose_name_has_another_key() {
    let old = invitation(Some("a"), 1);
    let mut registry = Registry::new(old.clone());
    registry.knock(&knock(None, 1), NOW).expect("invited").expect("at once");
    let used = registry.invitation.clone();
    registry.revoke("a", NOW + 100);
    registry.invitation = Invitation { secret: Digest([8; 32]), ..old };
    let anew = Knock { secret: Digest([8; 32]), ..knock(None, 2) };
    registry.knock(&anew, NOW + 101).expect("invited").expect("at once");
    registry.invitation = used;
    assert!(registry.knock(&knock(None, 1), NOW + 102).is_err());
    assert_eq!(registry.members[&name("a")].key, Some(Digest([2; 32])));
    // The same without a revocation.
    let mut registry = Registry::new(invitation(Some("a"), 1));
    registry.knock(&knock(None, 1), NOW).expect("invited").expect("at once");
    let used = registry.invitation.clone();
    registry.invitation = invitation(Some("a"), 1);
    registry.knock(&knock(None, 2), NOW + 1).expect("invited").expect("at once");
    registry.invitation = used;
    assert_eq!(registry.knock(&knock(None, 1), NOW + 2), Err(Refused::Taken(name("a"))));
}

/// The master stopped between its two writes. The worker comes back with its key.
#[test]
fn a_use_that_was_counted_is_completed_unless_the_name_was_revoked_meanwhile() {
    let counted = |registry: &Registry| {
        let known = registry.members.get(&name("a"));
        match registry.invitation.admit(&knock(None, 2), known, NOW + 10) {
            Ok(Admission::Admit(invitation, _)) => *invitation,
            other => panic!("{other:?}"),
        }
    };
    let mut registry = Registry::new(invitation(Some("a"), 1));
    registry.knock(&knock(None, 1), NOW).expect("invited").expect("at once");
    registry.invitation = invitation(Some("a"), 1);
    registry.invitation = counted(&registry);
    assert!(matches!(registry.knock(&knock(None, 2), NOW + 5_000), Ok(Some(_))));
    assert_eq!(registry.members[&name("a")].since, NOW + 10, "since it was let in");

    let mut registry = Registry::new(invitation(Some("a"), 1));
    registry.invitation = counted(&registry);
    registry.revoke("a", NOW + 11);
    assert_eq!(registry.knock(&knock(None, 2), NOW + 12), Err(Refused::Revoked(name("a"))));
}

#[test]
fn a_worker_with_a_certificate_made_by_hand_renews_none() {
    let member = Member::revoked(name("a"), None, NOW);
    assert!(member.may_renew(Some(NOW + 1_000), Digest([1; 32])).is_err());
}

#[test]
fn a_token_is_read_as_it_was_written_or_not_at_all() {
    let token = Token {
        fleet: GroupName::default(),
        masters: ["hq.example.com:7400".to_string()].into(),
        authority: Digest([3; 32]),
        secret: [9; SECRET_SIZE],
        worker: Some(name("shop-42")),
    };
    let text = token.to_string();
    assert_eq!(text.parse::<Token>(), Ok(token.clone()));
    assert_eq!(alloc::format!(" {text}\n").parse::<Token>(), Ok(token.clone()));
    for cut in 0..text.len() {
        assert_eq!(text[..cut].parse::<Token>(), Err(NotAToken), "{cut}");
    }
    assert!(!alloc::format!("{token:?}").contains("9, 9"), "its secret is not shown");
    let none = Token { masters: Vec::new(), ..token };
    assert_eq!(none.to_string().parse::<Token>(), Err(NotAToken));
}

#[test]
fn a_member_has_the_key_for_secrets_that_its_worker_has_told() {
    let mut registry = Registry::new(invitation(None, 2));
    let joined = registry.knock(&knock(Some("a"), 1), NOW).expect("let in").expect("at once");
    let told = |member: &Member| member.recipient.as_ref().map(ToString::to_string);
    assert_eq!(told(&joined).as_deref(), Some(RECIPIENTS[1]));
    let old = registry.knock(&knock(Some("b"), 2), NOW).expect("let in").expect("at once");
    assert_eq!(told(&old), None, "an older worker tells none");
    let other = RECIPIENTS[0].parse().expect("a key");
    let changed = joined.with_recipient(Digest([1; 32]), &other);
    assert_eq!(told(&changed).as_deref(), Some(RECIPIENTS[0]));
    assert_eq!(joined.with_recipient(Digest([9; 32]), &other), joined, "who has another key");
    let revoked = Member::revoked(name("a"), Some(joined), NOW);
    assert!(revoked.recipient.is_some() && revoked.revokes(Some(NOW)));
}
