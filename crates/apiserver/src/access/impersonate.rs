//! Acting as somebody else, by the `Impersonate-*` headers, for those who may.

use http::{HeaderMap, HeaderName};

use super::Attributes;
use super::identity::{AUTHENTICATED, Identity, MASTERS, UNAUTHENTICATED, account_groups, account_of};
use super::policy::Decision;
use crate::error::ApiError;

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whom the headers ask to be; `None` when they ask for nobody.
///
/// # Errors
/// 400 when they name groups, a uid or extras of no user.
pub fn wanted(headers: &HeaderMap) -> Result<Option<Identity>, ApiError> {
    let read = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let first = |name: &HeaderName| headers.get(name).map(read).unwrap_or_default();
    let mut wanted = Identity { user: first(&USER), uid: first(&UID), ..Identity::default() };
    wanted.groups = headers.get_all(&GROUP).iter().map(read).collect();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
        wanted.extra.entry(key).or_default().push(read(value));
    }
    if !wanted.user.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted == Identity::default() {
        return Ok(None);
    }
    let asked = (&wanted.groups, &wanted.uid, &wanted.extra);
    let message = format!("requested groups, uid and extra {asked:?} without impersonating a user name");
    Err(ApiError::bad_request(message))
}

/// The ways to impersonate, those first that allow the least: for one kind of user, and only for
/// requests that may be made in that way.
const MODES: [&str; 5] = ["associated-node", "arbitrary-node", "serviceaccount", "user-info", LEGACY];
/// Whoever may impersonate in the old way may make every request.
const LEGACY: &str = "";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Becomes the wanted identity for one request, if `decide` allows that to `requestor` in one of the ways.
///
/// # Errors
/// 403 with the first thing that is not allowed.
pub fn assume(
    requestor: &Identity,
    wanted: &Identity,
    request: &Attributes<'_>,
    decide: impl Fn(&Attributes<'_>) -> Decision,
) -> Result<Identity, ApiError> {
    let check = |asked: Attributes<'_>| {
        let decision = decide(&asked);
        if decision.allowed { Ok(()) } else { Err(asked.refusal(requestor, &decision.reason)) }
    };
    let mut first = None;
    for mode in MODES.into_iter().filter(|mode| is_for(mode, requestor, wanted)) {
        let attempt = Attempt { mode, wanted, check: &check };
        match attempt.check(requestor, request) {
            Ok(groups) => return Ok(with_own_group(Identity { groups, ..wanted.clone() })),
            Err(refused) => first = first.or(Some(refused)),
        }
    }
    Err(first.unwrap_or_else(|| ApiError::internal("no way to impersonate applies")))
}

fn node_of(user: &str) -> Option<&str> {
    let name = user.strip_prefix("system:node:")?;
    crate::kinds::format::dns1123_subdomain(name).is_empty().then_some(name)
}

fn is_for(mode: &str, requestor: &Identity, wanted: &Identity) -> bool {
    let name_only = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
    let (node, account) = (node_of(&wanted.user), account_of(&wanted.user));
    match mode {
        "associated-node" => {
            let own = requestor.extra.get(NODE_NAME).map(Vec::as_slice);
            let theirs = node.map(|n| [n.to_owned()]);
            name_only && account_of(&requestor.user).is_some() && theirs.is_some_and(|n| own == Some(&n[..]))
        }
        "arbitrary-node" => name_only && node.is_some(),
        "serviceaccount" => name_only && account.is_some(),
        "user-info" => node.is_none() && account.is_none(),
        _ => true,
    }
}

/// One way of impersonating, being tried.
struct Attempt<'a> {
    mode: &'a str,
    wanted: &'a Identity,
    check: &'a dyn Fn(Attributes<'_>) -> Result<(), ApiError>,
}

impl Attempt<'_> {
    /// Answers the groups.
    fn check(&self, requestor: &Identity, request: &Attributes<'_>) -> Result<Vec<String>, ApiError> {
        let (mode, wanted) = (self.mode, self.wanted);
        if mode != LEGACY {
            let verb = format!("impersonate-on:{mode}:{}", request.verb);
            (self.check)(Attributes { verb: verb.into(), ..request.clone() })?;
        }
        let mut groups = wanted.groups.clone();
        let (resource, namespace, name) = match (account_of(&wanted.user), node_of(&wanted.user)) {
            (Some((namespace, name)), _) => {
                if groups.is_empty() {
                    groups = account_groups(namespace);
                }
                ("serviceaccounts", namespace, name)
            }
            (_, Some(_)) if mode == "associated-node" => ("nodes", "", "*"),
            (_, Some(node)) if mode != LEGACY => ("nodes", "", node),
            _ => ("users", "", wanted.user.as_str()),
        };
        if resource == "nodes" {
            groups = vec!["system:nodes".into()];
        }
        let core = if mode == LEGACY { "" } else { AUTHENTICATION };
        self.part(core, resource, "", namespace, name)?;
        if !wanted.uid.is_empty() {
            self.part(AUTHENTICATION, "uids", "", "", &wanted.uid)?;
        }
        self.check_groups(requestor, core)?;
        for (key, values) in &wanted.extra {
            values.iter().try_for_each(|v| self.part(AUTHENTICATION, "userextras", key, "", v))?;
        }
        Ok(groups)
    }

    fn check_groups(&self, requestor: &Identity, core: &str) -> Result<(), ApiError> {
        for group in &self.wanted.groups {
            if self.mode != LEGACY && group == MASTERS {
                let verb = format!("impersonate:{}", self.mode);
                let asked = Attributes::about(&verb, core, "groups", "", group);
                return Err(asked.refusal(requestor, "impersonating the system:masters group is not allowed"));
            }
            self.part(core, "groups", "", "", group)?;
        }
        Ok(())
    }

    fn part(
        &self,
        api: &str,
        resource: &str,
        sub: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), ApiError> {
        let verb = match self.mode {
            LEGACY => "impersonate".to_owned(),
            mode => format!("impersonate:{mode}"),
        };
        let asked = Attributes::about(&verb, api, resource, namespace, name);
        (self.check)(Attributes { subresource: sub, ..asked })
    }
}

/// Everybody is in the group of those who are known, or in that of those who are not.
fn with_own_group(mut identity: Identity) -> Identity {
    let has = |group: &str| identity.groups.iter().any(|g| g == group);
    let own = if identity.is_anonymous() { UNAUTHENTICATED } else { AUTHENTICATED };
    if !has(own) && !has(UNAUTHENTICATED) {
        identity.groups.push(own.into());
    }
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), v.parse().unwrap())).collect()
    }

    /// The identity that results for a list of pods when nothing of the old way is refused but `refused`.
    fn becomes(pairs: &[(&'static str, &str)], refused: &str) -> Result<Identity, ApiError> {
        let wanted = wanted(&headers(pairs))?.expect("somebody is wanted");
        let asked = |a: &Attributes<'_>| a.verb == "impersonate" && a.resource != refused;
        let decide = |a: &Attributes<'_>| Decision { allowed: asked(a), reason: String::new() };
        assume(&admin(), &wanted, &Attributes::about("list", "", "pods", "", ""), decide)
    }

    fn admin() -> Identity {
        Identity { user: "admin".into(), ..Identity::default() }
    }

    #[test]
    fn somebody_else_has_the_groups_that_kubernetes_gives() {
        let groups = |pairs: &[(&'static str, &str)]| becomes(pairs, "").unwrap().groups;
        assert_eq!(groups(&[("impersonate-user", "jane")]), ["system:authenticated"]);
        assert_eq!(groups(&[("impersonate-user", "system:anonymous")]), ["system:unauthenticated"]);
        assert_eq!(
            groups(&[("impersonate-user", "system:serviceaccount:ns:robot")]),
            ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
        );
        assert_eq!(
            groups(&[("impersonate-user", "jane"), ("impersonate-group", "a"), ("impersonate-group", "b")]),
            ["a", "b", "system:authenticated"]
        );
        assert_eq!(
            groups(&[("impersonate-user", "jane"), ("impersonate-group", "system:unauthenticated")]),
            ["system:unauthenticated"]
        );
    }

    #[test]
    fn every_part_needs_its_permission() {
        let all = [
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme.com%2fproject", "x"),
        ];
        let jane = becomes(&all, "").unwrap();
        assert_eq!((jane.uid.as_str(), &jane.extra["acme.com/project"]), ("7", &vec!["x".to_owned()]));
        for refused in ["users", "groups", "uids", "userextras"] {
            // The first refusal is that of the narrower way.
            let narrow = "pods is forbidden: User \"admin\" cannot impersonate-on:user-info:list resource \"pods\" \
                          in API group \"\" at the cluster scope";
            assert_eq!(becomes(&all, refused).unwrap_err().message, narrow);
        }
        assert_eq!(wanted(&headers(&[("impersonate-group", "dev")])).unwrap_err().code, 400);
        assert_eq!(wanted(&headers(&[("accept", "x")])).unwrap(), None);
    }

    #[test]
    fn a_narrow_permission_is_for_some_requests_and_some_users() {
        let rules = [
            ("impersonate-on:serviceaccount:list", "pods"),
            ("impersonate:serviceaccount", "serviceaccounts"),
            ("impersonate-on:arbitrary-node:list", "pods"),
            ("impersonate:arbitrary-node", "nodes"),
            ("impersonate-on:user-info:list", "pods"),
            ("impersonate:user-info", "users"),
            ("impersonate:user-info", "groups"),
        ];
        let try_as = |user: &str, groups: &[&str], verb: &str| {
            let groups = groups.iter().map(|g| (*g).to_owned()).collect();
            let wanted = Identity { user: user.into(), groups, ..Identity::default() };
            let decide = |a: &Attributes<'_>| Decision {
                allowed: rules.contains(&(&*a.verb, a.resource)),
                reason: String::new(),
            };
            assume(&admin(), &wanted, &Attributes::about(verb, "", "pods", "", ""), decide)
        };
        let robot = "system:serviceaccount:ns:robot";
        assert!(try_as(robot, &[], "list").is_ok() && try_as(robot, &[], "delete").is_err());
        assert!(try_as(robot, &["dev"], "list").is_err(), "an account comes with its own groups");
        assert_eq!(
            try_as("system:node:n1", &[], "list").unwrap().groups,
            ["system:nodes", "system:authenticated"]
        );
        assert!(try_as("jane", &["dev"], "list").is_ok());
        assert!(try_as("jane", &["system:masters"], "list").is_err());
    }
}
