//! One URL tells the daemons and the command where NATS is and with which user to connect. Nothing shows
//! its password.

use muster_tests::{Fleet, fleet::text};

/// How often the test checks that a worker does not dial NATS.
const LOOKS: u32 = 25;

const USER: &str = "authorization { user: me, password: \"p@s/s\" }\n";
const TOKEN: &str = "authorization { token: \"t/k\" }\n";

#[test]
fn who_asks_is_read_from_a_url_by_all_in_the_same_way() {
    for (config, user) in [(USER, "me:p%40s%2Fs"), (TOKEN, "t%2Fk")] {
        let mut fleet = Fleet::registry_with(config, user);
        fleet.start_master("m1");
        fleet.start_worker("w1", &[]);
        fleet.push("upper");
        let ran = fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
        assert_eq!(ran.text(), "A");
        let url = fleet.nats_url();
        let password = url.split(['@', ':']).nth_back(2).expect("one");
        for name in ["m1", "w1"] {
            assert!(!fleet.log(name).contains(password), "{}", fleet.log(name));
        }
    }
}

#[test]
fn a_password_is_not_shown_by_who_cannot_use_the_url() {
    let fleet = Fleet::registry();
    fleet.certificate("master", "m1");
    fleet.certificate("worker", "w1");
    let file = |name: &str| fleet.path("tls").join(name);
    let state = fleet.path("state");
    let daemon = |role: &'static str, name: &str| {
        let files = ["ca.pem", &format!("{name}.pem"), &format!("{name}.key")].map(file);
        let [ca, cert, key] = files.each_ref().map(|path| text(path).to_owned());
        let state = text(&state).to_owned();
        let mut line = vec![role.to_owned(), "--name".into(), name.into(), "--ca".into(), ca];
        line.extend(["--cert".into(), cert, "--key".into(), key, "--state-dir".into(), state]);
        if role == "worker" {
            line.extend(["--allow-root".into(), "--master".into(), "127.0.0.1:1".into()]);
        }
        line
    };
    let lines = [daemon("master", "m1"), daemon("worker", "w1"), vec!["task".into(), "ls".into()]];
    for url in ["nats://me:qqq@host:port", "nats://me:qq,qqq@h", "nats://qqq@127.0.0.1:1"] {
        for line in &lines {
            // A daemon with a correct URL waits for its server for ever, so only the command is tested
            // with this one.
            if line[0] != "task" && !url.starts_with("nats://me") {
                continue;
            }
            let line: Vec<&str> = line.iter().map(String::as_str).chain(["--nats", url]).collect();
            let ran = fleet.run(&line);
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(!format!("{}{}", ran.err, ran.text()).contains("qq"), "{ran:?}");
            let mut command = fleet.muster(&line[..line.len() - 2]);
            command.env("MUSTER_NATS", url).arg("--help");
            let help = command.output().expect("muster starts").stdout;
            assert!(!String::from_utf8_lossy(&help).contains("qq"), "{line:?}");
        }
    }
}

#[test]
fn a_worker_has_a_way_to_nats_only_where_its_command_line_says_so() {
    let mut fleet = Fleet::start(0, 0);
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    other.set_nonblocking(true).expect("a listener can refuse to wait");
    let url = format!("nats://{}", other.local_addr().expect("it is bound"));
    fleet.launch_worker_in_shell("w1", &url);
    fleet.until_ready("w1");
    // The worker would have dialled before it was ready.
    for _ in 0..LOOKS {
        let dialled = other.accept().map(|(_, from)| from);
        assert!(dialled.is_err(), "it looks for the NATS of the shell: {dialled:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
