//! What each role permits, and who is taken for whom.

use super::*;

fn rights(everywhere: Role, groups: &[(&str, Role)]) -> Rights {
    let groups = groups.iter().map(|(name, role)| (name.parse().expect("a name"), *role));
    Rights { everywhere, groups: groups.collect() }
}

#[test]
fn a_role_of_a_group_takes_the_place_of_the_role_everywhere() {
    let rights = rights(Role::Submit, &[("vault", Role::None), ("shops", Role::Admin)]);
    for (group, role) in [("vault", Role::None), ("shops", Role::Admin), ("other", Role::Submit)] {
        assert_eq!(rights.role(group), role, "{group}");
        for needs in Role::ALL {
            assert_eq!(rights.demand(needs, group).is_ok(), role >= needs, "{group} {needs}");
        }
    }
    for needs in Role::ALL {
        assert_eq!(rights.demand_everywhere(needs).is_ok(), needs == Role::None, "{needs}");
        assert!(rights.demand_somewhere(needs).is_ok(), "{needs}");
    }
    let refused = rights.demand(Role::Read, "vault").expect_err("it has no role there");
    assert_eq!(
        refused.to_string(),
        "this needs the role read in the group vault; you have none there"
    );
}

#[test]
fn who_gives_roles_is_an_admin_wherever_they_change() {
    let of_shops = rights(Role::None, &[("shops", Role::Admin)]);
    let none = Rights::everywhere(Role::None);
    for (old, new, may) in [
        (&none, rights(Role::None, &[("shops", Role::Admin)]), true),
        (&none, rights(Role::None, &[("shops", Role::Read), ("vault", Role::Read)]), false),
        (&none, Rights::everywhere(Role::Read), false),
        // A group that is named with the role that it has anyway is no change.
        (&none, rights(Role::None, &[("vault", Role::None)]), true),
        // To take a role away is a change as well.
        (&rights(Role::None, &[("vault", Role::Read)]), none.clone(), false),
        (&rights(Role::Read, &[("shops", Role::None)]), Rights::everywhere(Role::Read), true),
        (&rights(Role::Read, &[("vault", Role::None)]), Rights::everywhere(Role::Read), false),
    ] {
        assert_eq!(of_shops.demand_change(old, &new).is_ok(), may, "{old:?} {new:?}");
        let admin = Rights::everywhere(Role::Admin);
        assert!(admin.demand_change(old, &new).is_ok(), "{old:?} {new:?}");
    }
}

#[test]
fn only_what_the_server_says_names_an_actor() {
    let of = |user: Option<&str>, account: &str| Actor {
        account: Some(account.into()),
        user: user.map(Into::into),
        called: None,
    };
    for (info, actor) in [
        (Some(r#"{"acc":"clients","user":"UABC","rtt":5}"#), of(Some("UABC"), "clients")),
        (Some(r#"{"acc":"clients","rtt":5}"#), of(None, "clients")),
        (Some(r#"{"acc":"clients","user":""}"#), of(None, "clients")),
        (Some(r#"{"acc":"clients","user":"a\u001b[2Jb"}"#), of(None, "clients")),
        (Some("{}"), of(None, UNNAMED)),
        (Some("no JSON"), of(None, UNNAMED)),
        (None, of(None, UNNAMED)),
    ] {
        assert_eq!(Actor::of(info), actor, "{info:?}");
        assert!(!Actor::of(info).is_of_registry(), "{info:?}");
    }
    assert!(Actor::default().is_of_registry());
}
