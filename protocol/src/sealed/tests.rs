//! Which worker may have which secret, case by case.

use super::*;
use crate::{
    AttemptId, Digest, SessionId, TaskId,
    entitlement::{Allowed, Entitlement},
    lease::Lease,
    limit::LEASE_DRAFT_MAX,
    message::{AttemptKey, HeldAttempt, StreamReply},
    record,
    registry::StreamId,
    signature::{KeyId, Signature, SignatureParts, SignerKey},
    task::{Attempt, Data, ModuleRef, TaskRecord, TaskSpec, TaskState, Verdict},
};
use alloc::{collections::BTreeMap, sync::Arc, vec};

const NOW: u64 = 1_800_000_000;
const MODULE: Digest = Digest([3; 32]);
const KEY: AttemptKey = AttemptKey { task: TaskId(1), attempt: AttemptId(10) };
const FILE: &[u8] = b"age-encryption.org/v1\nand the rest";

fn recipient(number: usize) -> Recipient {
    let text = [
        "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq",
        "age1qgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpquuzgag",
    ][number];
    text.parse().expect("a key")
}

fn worker(name: &str) -> WorkerId {
    name.parse().expect("a name")
}

fn name(name: &str) -> SecretName {
    name.parse().expect("a name")
}

/// A member that may have the secret `KEY`.
fn member() -> Member {
    let secrets = Allowed(["KEY".into()].into());
    Member {
        worker: worker("w1"),
        key: Some(Digest([1; 32])),
        recipient: Some(recipient(0)),
        entitlement: Entitlement { secrets, ..Entitlement::default() },
        pending: false,
        revoked: None,
        since: NOW,
        unknown: Default::default(),
    }
}

fn secret(rule: Option<SecretRule>) -> SealedSecret {
    SealedSecret {
        worker: worker("w1"),
        name: name("KEY"),
        content: Some(SealedContent {
            recipient: recipient(0),
            joined: NOW,
            rule,
            file: Bytes::from_static(FILE),
        }),
        set_at: WallMillis(1),
        set_by: "alice".into(),
        unknown: Default::default(),
    }
}

fn signer(id: u8, key: u8) -> SignerKey {
    SignerKey { id: KeyId([id; 8]), key: [key; 32] }
}

fn only(digests: &[Digest], signers: &[SignerKey]) -> SecretRule {
    SecretRule {
        digests: digests.iter().copied().collect(),
        signers: signers.iter().copied().collect(),
    }
}

/// Changes of a member, and why it may have no secret then.
fn strangers() -> Vec<(Member, NoSecret)> {
    let permits_other =
        Entitlement { secrets: Allowed(["OTHER".into()].into()), ..Entitlement::default() };
    vec![
        (Member { key: None, ..member() }, NoSecret::NotJoined),
        (Member { pending: true, ..member() }, NoSecret::Pending),
        (Member::revoked(worker("w1"), Some(member()), NOW), NoSecret::Revoked),
        (Member { entitlement: permits_other, ..member() }, NoSecret::NotPermitted(name("KEY"))),
        (Member { recipient: None, ..member() }, NoSecret::NoKey),
    ]
}

#[test]
fn a_secret_is_set_only_for_a_worker_that_may_have_it() {
    let set = |member: Option<&Member>, of: usize, others| {
        let file = Bytes::from_static(FILE);
        content_for(&worker("w1"), member, &name("KEY"), recipient(of), None, file, others)
    };
    let content = set(Some(&member()), 0, SEALED_SECRETS_MAX - 1).expect("it is set");
    assert_eq!((content.joined, content.recipient), (NOW, recipient(0)));
    let any = Entitlement::any();
    assert!(set(Some(&Member { entitlement: any, ..member() }), 0, 0).is_ok());
    for (member, why) in strangers() {
        assert_eq!(set(Some(&member), 0, 0), Err(NotSet::NotFor(worker("w1"), why)));
    }
    assert_eq!(set(None, 0, 0), Err(NotSet::NotFor(worker("w1"), NoSecret::NotJoined)));
    assert_eq!(set(Some(&member()), 1, 0), Err(NotSet::OtherKey(worker("w1"))));
    let full = set(Some(&member()), 0, SEALED_SECRETS_MAX);
    assert_eq!(full, Err(NotSet::Full(worker("w1"))));
}

#[test]
fn a_worker_hears_of_its_own_secrets_and_of_no_other() {
    let heard = |member: &Member, secret: &SealedSecret| {
        !terms_for(Some(member), [secret].into_iter()).is_empty()
    };
    assert!(heard(&member(), &secret(None)));
    for (member, why) in strangers() {
        assert!(!heard(&member, &secret(None)), "{why}");
    }
    let content = || secret(None).content.expect("it has one");
    for (other, what) in [
        (SealedSecret { worker: worker("w2"), ..secret(None) }, "of another worker"),
        (SealedSecret { content: None, ..secret(None) }, "forgotten"),
        (
            SealedSecret {
                content: Some(SealedContent { recipient: recipient(1), ..content() }),
                ..secret(None)
            },
            "for an earlier key",
        ),
        (
            SealedSecret {
                content: Some(SealedContent { joined: NOW - 1, ..content() }),
                ..secret(None)
            },
            "set before the worker joined anew",
        ),
    ] {
        assert!(!heard(&member(), &other), "{what}");
    }
    assert!(terms_for(None, [&secret(None)].into_iter()).is_empty());
    let many = vec![secret(None); SEALED_SECRETS_MAX + 1];
    assert_eq!(terms_for(Some(&member()), many.iter()).len(), SEALED_SECRETS_MAX);
}

#[test]
fn only_files_of_age_that_are_small_are_kept() {
    let large = [FILE, &[0; SEALED_SIZE_MAX]].concat();
    for (file, wrong) in [
        (FILE, ""),
        (b"correct horse".as_slice(), "not encrypted"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----", "not encrypted"),
        (b"", "not encrypted"),
        (&large, "at most"),
    ] {
        let said = check_file(file).err().unwrap_or_default();
        assert!(said.contains(wrong) && said.is_empty() == wrong.is_empty(), "{said}");
    }
}

/// A record whose task asks for the secret `KEY`, with the attempt `attempt` on `at`.
fn task(attempt: u64, at: &str) -> TaskRecord {
    let mut spec = TaskSpec::new(ModuleRef { name: None, digest: MODULE }, Data::EMPTY);
    Arc::make_mut(&mut spec.grants).secrets.insert("KEY".into());
    let attempt = Attempt {
        id: AttemptId(attempt),
        number: 1,
        worker: worker(at),
        session: SessionId(1),
        lease: 1,
        lease_stream: StreamId(1),
        dispatched_at: WallMillis(1),
        alone: false,
        to_silent: false,
        unknown: Default::default(),
    };
    let record = TaskRecord::queued(KEY.task, Arc::new(spec), WallMillis(1));
    TaskRecord { state: TaskState::Dispatched(attempt), attempts: 1, ..record }
}

fn asks(of: &str) -> Question {
    Question::new(worker(of), HeldAttempt { key: KEY, revision: 5 }, name("KEY"))
}

#[test]
fn a_value_goes_only_to_an_attempt_that_was_granted_it() {
    let (record, mine) = (task(10, "w1"), secret(None));
    let answer = |record: &TaskRecord, secret: &SealedSecret| {
        asks("w1").answer(Some((record, 5)), Some(&member()), Some(secret))
    };
    let file = StreamReply::Sealed(Bytes::from_static(FILE));
    assert_eq!(answer(&record, &mine), file);
    let refused = |answer: StreamReply, why: &str| match answer {
        StreamReply::Refused(said) => assert!(said.contains(why), "{said}"),
        other => panic!("{why}: {other:?}"),
    };

    // Another worker, and another attempt.
    let of_another = asks("w2").answer(Some((&record, 5)), Some(&member()), Some(&mine));
    assert_eq!(of_another, StreamReply::Stale);
    assert_eq!(answer(&task(10, "w2"), &mine), StreamReply::Stale);
    assert_eq!(answer(&task(11, "w1"), &mine), StreamReply::Stale);
    let queued = TaskRecord::queued(KEY.task, record.spec.clone(), WallMillis(1));
    assert_eq!(answer(&queued, &mine), StreamReply::Stale);
    let other_task = TaskRecord { id: TaskId(2), ..record.clone() };
    assert_eq!(answer(&other_task, &mine), StreamReply::Stale);

    // A record that is older than the attempt says nothing of it.
    let (asks, of) = (asks("w1"), member());
    assert_eq!(asks.answer(Some((&record, 4)), Some(&of), Some(&mine)), StreamReply::Behind);
    assert_eq!(asks.answer(None, Some(&of), Some(&mine)), StreamReply::Behind);

    // A task that does not ask for it.
    let mut modest = record.clone();
    let spec = Arc::make_mut(&mut modest.spec);
    Arc::make_mut(&mut spec.grants).secrets.clear();
    refused(answer(&modest, &mine), "does not ask for the secret KEY");

    // A worker that may not have it any more, and a secret that is gone.
    for (member, why) in strangers() {
        let told = asks.answer(Some((&record, 5)), Some(&member), Some(&mine));
        refused(told, "keeps no secret KEY");
        assert!(key_for(&member, &name("KEY")).is_err(), "{why}");
    }
    refused(asks.answer(Some((&record, 5)), None, Some(&mine)), "keeps no secret KEY");
    refused(asks.answer(Some((&record, 5)), Some(&of), None), "keeps no secret KEY");
    refused(answer(&record, &SealedSecret { content: None, ..mine.clone() }), "keeps no secret");
    refused(answer(&record, &SealedSecret { worker: worker("w2"), ..mine.clone() }), "no secret");
    refused(answer(&record, &SealedSecret { name: name("OTHER"), ..mine }), "no secret");
}

#[test]
fn a_value_goes_only_to_a_module_that_its_rule_names() {
    let signed = |by: u8| {
        let mut record = task(10, "w1");
        let parts = SignatureParts { of_bytes: [1; 64], comment: "it", of_comment: [2; 64] };
        let signature = Signature::new(KeyId([by; 8]), parts).expect("a signature");
        Arc::make_mut(&mut record.spec).signature = Some(signature);
        record
    };
    let other = Digest([4; 32]);
    for (record, rule, given) in [
        (task(10, "w1"), only(&[MODULE], &[]), true),
        (task(10, "w1"), only(&[other], &[]), false),
        (task(10, "w1"), only(&[], &[signer(7, 1)]), false),
        (signed(7), only(&[], &[signer(7, 1)]), true),
        (signed(8), only(&[], &[signer(7, 1)]), false),
        (signed(7), only(&[other], &[signer(7, 1)]), true),
    ] {
        let secret = secret(Some(rule.clone()));
        let told = asks("w1").answer(Some((&record, 5)), Some(&member()), Some(&secret));
        match told {
            StreamReply::Sealed(_) => assert!(given, "{rule}"),
            StreamReply::Refused(said) => {
                assert!(!given && said.contains("for other modules"), "{rule}: {said}");
            }
            other => panic!("{rule}: {other:?}"),
        }
    }
}

#[test]
fn a_refusal_ends_the_attempt_and_anything_unclear_is_asked_again() {
    let by = |told| Answered::by(&name("KEY"), told);
    let file = Bytes::from_static(FILE);
    assert_eq!(by(StreamReply::Sealed(file.clone())), Answered::File(file));
    let refused = Verdict::Rejected { message: "no".into() };
    assert_eq!(by(StreamReply::Refused("no".into())), Answered::Ends(refused));
    let stale = by(StreamReply::Stale);
    assert!(matches!(stale, Answered::Ends(Verdict::Returned { .. })), "never the task's end");
    for told in [
        StreamReply::Behind,
        StreamReply::Failed("later".into()),
        StreamReply::Missing,
        StreamReply::Stored,
    ] {
        assert!(matches!(by(told.clone()), Answered::Again(_)), "{told:?}");
    }
    assert!(matches!(Answered::none(&name("KEY"), "it"), Verdict::Returned { .. }));
    let closed = Answered::closed(&name("KEY"), &worker("w1"), "is not for it");
    let Verdict::Rejected { message } = closed else { panic!("{closed:?}") };
    assert!(message.contains("muster secret set KEY --worker w1"), "{message}");
}

fn terms(of: &str, rule: Option<SecretRule>) -> SecretTerms {
    SecretTerms { name: name(of), rule }
}

#[test]
fn a_policy_gains_what_its_file_does_not_have() {
    let mut draft = Lease::new(worker("w1"), SessionId(1));
    let policy = Arc::make_mut(&mut draft.offer.policy);
    policy.secrets.insert("FILE".into());
    policy.signers.insert(KeyId([7; 8]));
    let keys = BTreeMap::from([(KeyId([7; 8]), signer(7, 1))]);
    let names = ["FILE", "KEY", "OTHER", "THIRD"].map(String::from);
    let entitlement = Entitlement { secrets: Allowed(names.into()), ..Entitlement::default() };
    let merged = merge(
        &draft,
        &keys,
        &entitlement,
        &[
            terms("FILE", None),
            terms("KEY", Some(only(&[MODULE], &[signer(7, 1), signer(8, 2)]))),
            terms("KEY", None),
            terms("OTHER", Some(only(&[], &[signer(7, 9)]))),
            terms("STRANGE", None),
            terms("THIRD", Some(SecretRule::default())),
        ],
    );
    assert_eq!(merged.sealed, [name("KEY")].into());
    assert_eq!(merged.policy.secrets, ["FILE", "KEY"].map(String::from).into());
    assert_eq!(merged.policy.secret_modules.len(), 1, "FILE stays for every module");
    assert_eq!(
        merged.policy.signers,
        [KeyId([7; 8])].into(),
        "modules that may run are the file's"
    );
    assert_eq!(merged.keys.len(), 2);
    let why: Vec<_> = merged.left_out.iter().map(|(name, why)| (name.as_str(), why)).collect();
    assert_eq!(
        why[..3],
        [
            ("FILE", &LeftOut::File),
            ("OTHER", &LeftOut::OtherKey(KeyId([7; 8]))),
            ("STRANGE", &LeftOut::NotPermitted),
        ]
    );
    assert!(matches!(why[3], ("THIRD", LeftOut::Rule(_))), "{why:?}");
    assert_eq!(why.len(), 4);
    let nothing = merge(&draft, &keys, &entitlement, &[]);
    assert_eq!((&nothing.policy, nothing.keys), (&*draft.offer.policy, keys));
}

#[test]
fn a_lease_with_sealed_secrets_is_never_too_large() {
    let draft = Lease::new(worker("w1"), SessionId(1));
    let digests: Vec<Digest> = (0..16).map(|number| Digest([number; 32])).collect();
    let all: Vec<SecretTerms> = (0..SEALED_SECRETS_MAX)
        .map(|number| terms(&format!("KEY_{number}"), Some(only(&digests, &[]))))
        .collect();
    let merged = merge(&draft, &BTreeMap::new(), &Entitlement::any(), &all);
    let (some, none) = (merged.sealed.len(), merged.left_out.len());
    assert!(some > 8 && none > 0 && some + none == SEALED_SECRETS_MAX, "{some} {none}");
    assert!(merged.left_out.iter().all(|(_, why)| *why == LeftOut::Full));
    let mut lease = draft;
    lease.offer.policy = Arc::new(merged.policy);
    assert!(record::write(&lease).expect("JSON").len() <= LEASE_DRAFT_MAX);
}

#[test]
fn what_masters_remember_has_no_value() {
    let kept = secret(Some(only(&[MODULE], &[]))).without_file();
    let content = kept.content.as_ref().expect("the rest");
    assert!(content.file.is_empty() && content.rule.is_some());
    assert_eq!(key(&kept.worker, &kept.name), "sealed.w1.KEY");
    let text = record::write(&secret(None)).expect("JSON");
    assert_eq!(record::read::<SealedSecret>(&text).ok(), Some(secret(None)));
}
