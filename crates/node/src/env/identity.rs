//! Who a container runs as, and what it may use: pod and container `securityContext` merged, limits.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::quantity;
use crate::pod::qos;
use crate::runtime::{Resources, Security};

/// The container's security settings; its own override the pod's.
pub fn security(pod: &Pod, container: &Container) -> Security {
    let of_pod = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let id = |v: Option<i64>| v.and_then(|v| u32::try_from(v).ok());
    let capabilities = own.capabilities.unwrap_or_default();
    let groups = of_pod.fs_group.into_iter().chain(of_pod.supplemental_groups.into_iter().flatten());
    Security {
        run_as_user: id(own.run_as_user.or(of_pod.run_as_user)),
        run_as_group: id(own.run_as_group.or(of_pod.run_as_group)),
        run_as_non_root: own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false),
        supplemental_groups: groups.filter_map(|g| u32::try_from(g).ok()).collect(),
        privileged: own.privileged.unwrap_or(false),
        read_only_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        cap_add: capabilities.add.unwrap_or_default(),
        cap_drop: capabilities.drop.unwrap_or_default(),
    }
}

/// Whether `runAsNonRoot` can be kept, judged by numbers alone, as kubelet does before anything is made.
pub fn verify_non_root(security: &Security, image_user: &str) -> Result<(), String> {
    if !security.run_as_non_root {
        return Ok(());
    }
    if let Some(uid) = security.run_as_user {
        return if uid == 0 { Err("container's runAsUser breaks non-root policy".into()) } else { Ok(()) };
    }
    match image_user.split(':').next().unwrap_or_default() {
        "" | "0" | "root" => Err("container has runAsNonRoot and image will run as root".into()),
        user if user.parse::<u32>().is_err() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
        )),
        _ => Ok(()),
    }
}

/// The container's limits; a limit without a request is also the request.
pub fn resources(container: &Container) -> Resources {
    let r = container.resources.clone().unwrap_or_default();
    let (limits, requests) = (r.limits.unwrap_or_default(), r.requests.unwrap_or_default());
    let cpu = |q: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>| {
        q.and_then(|q| quantity::millis(&q.0)).and_then(|v| u64::try_from(v).ok())
    };
    Resources {
        cpu_request_millis: cpu(requests.get("cpu").or(limits.get("cpu"))),
        cpu_limit_millis: cpu(limits.get("cpu")).filter(|v| *v > 0),
        memory_limit: limits
            .get("memory")
            .and_then(|q| quantity::units(&q.0))
            .and_then(|v| u64::try_from(v).ok())
            .filter(|v| *v > 0),
        pids_limit: None,
    }
}

/// How soon the kernel picks it when memory is short: kubelet's formula per QoS class. Guaranteed
/// pods would be −997, which not every node may set: they stay at 0.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: u64) -> Option<i32> {
    match qos::class(pod) {
        "Guaranteed" => None,
        "BestEffort" => Some(1000),
        _ => {
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let bytes = requests.and_then(|r| r.get("memory")).and_then(|q| quantity::units(&q.0));
            let share = 1000 * bytes.unwrap_or(0) / i128::from(node_memory.max(1));
            i32::try_from((1000 - share).clamp(3, 999)).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_root_must_be_certain() {
        let verdict = |user: Option<u32>, image: &str| {
            let security = Security { run_as_non_root: true, run_as_user: user, ..Security::default() };
            verify_non_root(&security, image).map_err(|e| e.rsplit(' ').next().unwrap_or_default().to_owned())
        };
        assert_eq!(verdict(Some(1000), "root"), Ok(()));
        assert_eq!(verdict(Some(0), "1000"), Err("policy".into()));
        assert_eq!(verdict(None, "1000:0"), Ok(()));
        for root in ["", "0", "0:0"] {
            assert_eq!(verdict(None, root), Err("root".into()), "{root}");
        }
        assert_eq!(verdict(None, "www"), Err("non-root".into()));
        assert_eq!(verify_non_root(&Security::default(), ""), Ok(()));
    }
}
