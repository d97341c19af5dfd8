//! Who a container runs as, from the image's `/etc/passwd` and `/etc/group`. Pure.

use crate::runtime::Security;

/// Numeric identity of a container's program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory, for `HOME`.
    pub home: Option<String>,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Resolves the image's `User` and what the security context overrides.
pub fn resolve(user: &str, security: &Security, passwd: &str, group: &str) -> Result<Identity, String> {
    let (user_part, group_part) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let wanted = security.run_as_user.map(|uid| uid.to_string()).unwrap_or_else(|| user_part.to_owned());
    let account = accounts(passwd).find(|a| a.name == wanted || wanted.parse() == Ok(a.uid));
    let uid = match (&account, wanted.as_str()) {
        (_, "") => 0,
        (Some(account), _) => account.uid,
        (None, text) => text
            .parse()
            .map_err(|_| format!("unable to find user {text}: no matching entries in passwd file"))?,
    };
    if security.run_as_non_root && uid == 0 {
        return Err(if security.run_as_user.is_some() {
            "container's runAsUser breaks non-root policy".into()
        } else {
            "container has runAsNonRoot and image will run as root".into()
        });
    }
    if security.run_as_non_root && security.run_as_user.is_none() && wanted.parse::<u32>().is_err() {
        return Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({wanted}), cannot verify user is non-root"
        ));
    }
    let root_or_account = account.as_ref().map(|a| a.gid);
    let gid = match (security.run_as_group, group_part) {
        (Some(gid), _) => gid,
        (None, Some(text)) if security.run_as_user.is_none() && !text.is_empty() => group_id(text, group)?,
        _ => root_or_account.unwrap_or(0),
    };
    let mut groups = security.supplemental_groups.clone();
    if let Some(account) = &account {
        groups.extend(member_of(account.name, group));
    } else if wanted.is_empty() {
        groups.extend(member_of("root", group));
    }
    groups.retain(|group| *group != gid);
    groups.sort_unstable();
    groups.dedup();
    let home = account.map(|a| a.home.to_owned()).filter(|home| !home.is_empty());
    Ok(Identity { uid, gid, groups, home })
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields = line.trim().split(':').collect::<Vec<_>>();
        let [name, _, uid, gid, rest @ ..] = fields.as_slice() else { return None };
        let home = rest.get(1).copied().unwrap_or("");
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let fields = line.trim().split(':').collect::<Vec<_>>();
        let [name, _, gid, members, ..] = fields.as_slice() else { return None };
        Some((*name, gid.parse().ok()?, *members))
    })
}

fn group_id(text: &str, group: &str) -> Result<u32, String> {
    if let Some((_, gid, _)) = groups(group).find(|(name, _, _)| *name == text) {
        return Ok(gid);
    }
    text.parse().map_err(|_| format!("unable to find group {text}: no matching entries in group file"))
}

fn member_of(user: &str, group: &str) -> Vec<u32> {
    let member = |members: &str| members.split(',').any(|member| member == user);
    groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:w:/var/www:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nextra:x:50:www,other\n";

    fn with(user: &str, change: impl FnOnce(&mut Security)) -> Result<Identity, String> {
        let mut security = Security::default();
        change(&mut security);
        resolve(user, &security, PASSWD, GROUP)
    }

    #[test]
    fn no_user_is_root() {
        assert_eq!(with("", |_| ()).expect("root").uid, 0);
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        let identity = with("www", |_| ()).expect("www");
        assert_eq!((identity.uid, identity.gid, identity.groups), (33, 34, vec![50]));
        assert_eq!(identity.home.as_deref(), Some("/var/www"));
    }

    #[test]
    fn numbers_need_no_entry() {
        let identity = with("1000:2000", |_| ()).expect("numbers");
        assert_eq!((identity.uid, identity.gid), (1000, 2000));
        assert_eq!(with("1000", |_| ()).expect("number").gid, 0);
    }

    #[test]
    fn the_security_context_wins() {
        let identity = with("www:extra", |s| s.run_as_user = Some(7)).expect("seven");
        assert_eq!((identity.uid, identity.gid), (7, 0));
        let identity = with("www:extra", |s| s.run_as_group = Some(9)).expect("www");
        assert_eq!((identity.uid, identity.gid), (33, 9));
    }

    #[test]
    fn unknown_names_and_root_under_non_root_policy_are_refused() {
        assert!(with("ghost", |_| ()).expect_err("unknown").contains("unable to find user ghost"));
        assert!(with("www:ghosts", |_| ()).expect_err("unknown").contains("unable to find group ghosts"));
        let error = with("", |s| s.run_as_non_root = true).expect_err("root");
        assert_eq!(error, "container has runAsNonRoot and image will run as root");
    }
}
