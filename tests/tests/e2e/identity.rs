//! Every way in which a nats-server can ask who somebody is. A master, a worker and the command log in with
//! the same options, and who has none is refused with advice.

use base64::Engine as _;
use muster_tests::{Fleet, fleet::text};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair as TlsKey};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Runs a task on a fleet whose every process logs in, then asks without credentials.
fn works_only_with(mut fleet: Fleet, variables: &[(&str, PathBuf)], advice: &str) {
    let refused = fleet.run(&["task", "ls"]);
    assert!(refused.code == 2 && refused.err.contains(advice), "{refused:?}");
    for (name, path) in variables {
        fleet.set_variable(name, path.clone());
    }
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    fleet.push("upper");
    let ran = fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
    assert_eq!(ran.text(), "A");
    let log = fleet.log("w1");
    assert!(log.contains("the direct connection to NATS is open"), "{log}");
}

fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// A JWT as NATS reads them: `claims` about the key `about`, signed by `by`.
fn jwt(by: &KeyPair, about: &KeyPair, claims: serde_json::Value) -> String {
    let header = encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let body = serde_json::json!({
        "jti": "1", "iat": 1_700_000_000, "name": "a name",
        "iss": by.public_key(), "sub": about.public_key(), "nats": claims,
    });
    let text = format!("{header}.{}", encode(body.to_string().as_bytes()));
    let signature = by.sign(text.as_bytes()).expect("it has its seed");
    format!("{text}.{}", encode(&signature))
}

/// `disk`: -1 for JetStream without a limit, 0 for none.
fn account(by: &KeyPair, account: &KeyPair, disk: i64) -> String {
    let all = -1;
    jwt(
        by,
        account,
        serde_json::json!({
            "type": "account", "version": 2,
            "limits": {
                "subs": all, "data": all, "payload": all, "imports": all, "exports": all,
                "wildcards": true, "conn": all, "leaf": all, "mem_storage": 0, "disk_storage": disk,
                "streams": disk, "consumer": disk,
            },
        }),
    )
}

#[test]
fn a_credentials_file() {
    let (operator, system, owner) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let user = KeyPair::new_user();
    let operator_jwt =
        jwt(&operator, &operator, serde_json::json!({"type": "operator", "version": 2}));
    let user_jwt = jwt(
        &owner,
        &user,
        serde_json::json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {},
        }),
    );
    let config = format!(
        "operator: {operator_jwt}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n  {}: {}\n  {}: {}\n}}\n",
        system.public_key(),
        system.public_key(),
        account(&operator, &system, 0),
        owner.public_key(),
        account(&operator, &owner, -1),
    );
    let fleet = Fleet::registry_with(config, "");
    let file = fleet.path("user.creds");
    let seed = user.seed().expect("it has its seed");
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    fs::write(&file, creds).expect("a file");
    works_only_with(fleet, &[("MUSTER_NATS_CREDS", file)], "--nats-creds");
}

#[test]
fn an_nkey() {
    let user = KeyPair::new_user();
    let config = format!("authorization {{ users: [{{ nkey: {} }}] }}\n", user.public_key());
    let fleet = Fleet::registry_with(config, "");
    let file = fleet.path("user.nk");
    fs::write(&file, user.seed().expect("it has its seed")).expect("a file");
    works_only_with(fleet, &[("MUSTER_NATS_NKEY", file)], "--nats-nkey");
}

/// The files of an authority, of a server on loopback and of a client.
struct TlsFiles(tempfile::TempDir);

impl TlsFiles {
    fn make() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let write =
            |name: &str, text: String| fs::write(dir.path().join(name), text).expect("a file");
        let key = TlsKey::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        write("ca.pem", params.self_signed(&key).expect("a certificate").pem());
        let issuer = Issuer::new(params, key);
        for name in ["server", "client"] {
            let key = TlsKey::generate().expect("a key");
            let params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("an address");
            let signed = params.signed_by(&key, &issuer).expect("a certificate");
            write(&format!("{name}.pem"), signed.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        TlsFiles(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self, more: &str) -> String {
        let file = |name| text(&self.path(name)).to_owned();
        format!(
            "tls {{\n  cert_file: \"{}\"\n  key_file: \"{}\"\n  ca_file: \"{}\"\n  {more}\n}}\n",
            file("server.pem"),
            file("server.key"),
            file("ca.pem"),
        )
    }
}

#[test]
fn tls_with_a_certificate_of_the_client() {
    let files = TlsFiles::make();
    let fleet = Fleet::registry_with(files.config("verify: true"), "");
    let variables = [
        ("MUSTER_NATS_CA", files.path("ca.pem")),
        ("MUSTER_NATS_CERT", files.path("client.pem")),
        ("MUSTER_NATS_KEY", files.path("client.key")),
    ];
    works_only_with(fleet, &variables, "--nats-ca");
}

#[test]
fn tls_before_the_server_says_anything() {
    let files = TlsFiles::make();
    let fleet = Fleet::registry_with(files.config("handshake_first: true"), "me:secret");
    let variables =
        [("MUSTER_NATS_CA", files.path("ca.pem")), ("MUSTER_NATS_TLS_FIRST", "true".into())];
    works_only_with(fleet, &variables, "cannot reach NATS");
}

#[test]
fn a_server_that_tls_was_asked_of_and_that_has_none_is_refused() {
    let fleet = Fleet::registry();
    let url = fleet.nats_url().replace("nats://", "tls://");
    let ran = fleet.run(&["--nats", &url, "task", "ls"]);
    assert!(ran.code == 2 && ran.err.contains("cannot reach NATS"), "{ran:?}");
}

/// A context names servers, credentials and an authority; all three programs take it by its name.
#[test]
fn a_context_by_its_name() {
    let user = KeyPair::new_user();
    let config = format!("authorization {{ users: [{{ nkey: {} }}] }}\n", user.public_key());
    let mut fleet = Fleet::registry_with(config, "");
    let file = fleet.path("user.nk");
    fs::write(&file, user.seed().expect("it has its seed")).expect("a file");
    let contexts = fleet.path("config/nats/context");
    fs::create_dir_all(&contexts).expect("a directory");
    let mut context = serde_json::json!({"url": fleet.nats_url(), "nkey": text(&file)});
    context["inbox_prefix"] = "alice".into();
    fs::write(contexts.join("odd.json"), context.to_string()).expect("a file");
    context["inbox_prefix"] = "_INBOX_alice".into();
    fs::write(contexts.join("edge.json"), context.to_string()).expect("a file");
    fleet.set_variable("XDG_CONFIG_HOME", fleet.path("config"));
    fleet.take_context("edge");
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    let ran = fleet.run(&["--context", "edge", "worker", "ls"]).ok();
    assert!(ran.text().contains("w1"), "{ran:?}");
    let ran = fleet.run(&["--context", "nowhere", "worker", "ls"]);
    assert!(ran.code == 2 && ran.err.contains("nats context ls"), "{ran:?}");
    let ran = fleet.run(&["--context", "odd", "worker", "ls"]);
    assert!(ran.code == 2 && ran.err.contains("such as _INBOX_alice"), "{ran:?}");
    assert!(fleet.log("w1").contains("the direct connection to NATS is open"));
}

#[test]
fn options_that_cannot_be_used_say_so_before_anything_is_dialled() {
    let fleet = Fleet::registry();
    let missing = Path::new("/nowhere/at/all");
    for (line, advice) in [
        (vec!["--nats-creds", text(missing), "task", "ls"], "/nowhere/at/all"),
        (vec!["--nats-cert", text(missing), "task", "ls"], "--nats-key"),
        (vec!["--nats-creds", "a", "--nats-nkey", "b", "task", "ls"], "cannot be used with"),
        (
            vec!["--nats", "nats://me:s@h", "--nats-nkey", "b", "task", "ls"],
            "leave one of them out",
        ),
    ] {
        let ran = fleet.run(&line);
        assert!(ran.code == 2 && ran.err.contains(advice), "{ran:?}");
    }
}
