//! Performs the making of things: a pod's volumes and sandbox, and a container from image to process.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use daymark_model::PerFamily;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::hooks;
use super::spec;
use super::state::{Failure, StartError, Started};
use crate::env::expand::expand;
use crate::env::fields::Place;
use crate::env::vars::{self, Kind, Sources};
use crate::env::{TokenAsk, container_env, dns, identity};
use crate::image::ImageError;
use crate::runtime::{ContainerId, ContainerSpec, ImageInfo, PullPolicy, PullSecrets, SandboxSpec};
use crate::volume::{self, MountError};

/// Volumes first, because the shim must see what is mounted; then the sandbox.
pub async fn prepare(ctx: &Context, pod: &Arc<Pod>) -> Result<PerFamily<IpAddr>, String> {
    let sources = volume_sources(ctx, pod).await.inspect_err(|cause| {
        ctx.warn(pod, None, "FailedMount", format!("Unable to attach or mount volumes: {cause}"));
    })?;
    write_volumes(ctx, pod, sources, volume::prepare).await?;
    let spec = sandbox_spec(ctx, pod).inspect_err(|cause| {
        ctx.warn(pod, None, "FailedCreatePodSandBox", cause.clone());
    })?;
    match ctx.backend.create_sandbox(spec).await {
        Ok(sandbox) => Ok(sandbox.ips),
        Err(e) => {
            let message = format!("Failed to create pod sandbox: {e}");
            ctx.warn(pod, None, "FailedCreatePodSandBox", message.clone());
            Err(message)
        }
    }
}

/// Brings the volumes that are made of objects and tokens up to date.
pub async fn refresh_volumes(ctx: &Context, pod: &Arc<Pod>) -> Result<(), String> {
    let sources = volume_sources(ctx, pod).await?;
    write_volumes(ctx, pod, sources, volume::refresh).await
}

/// What volumes are made of, all asked for at once: tokens take no longer than the ConfigMap beside them.
async fn volume_sources(ctx: &Context, pod: &Pod) -> Result<Sources, String> {
    let objects = fetch(ctx, pod, volume::references(pod));
    let (sources, tokens) = tokio::try_join!(objects, fetch_tokens(ctx, pod))?;
    Ok(Sources { tokens, ..sources })
}

type WriteVolumes = fn(&Pod, &Path, &Place, &Sources) -> Result<(), MountError>;

async fn write_volumes(
    ctx: &Context,
    pod: &Arc<Pod>,
    sources: Sources,
    write: WriteVolumes,
) -> Result<(), String> {
    let dir = ctx.backend.volumes_dir(spec::uid(pod));
    let place = ctx.place(None);
    let its = pod.clone();
    let work = move || write(&its, &dir, &place, &sources);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => {
            ctx.warn(pod, None, "FailedMount", e.to_string());
            Err(e.to_string())
        }
        Err(e) => Err(e.to_string()),
    }
}

fn sandbox_spec(ctx: &Context, pod: &Pod) -> Result<SandboxSpec, String> {
    let s = &ctx.settings;
    let names = dns::names(pod, &s.domain, &s.node)?;
    let spec_of = pod.spec.as_ref();
    let sysctls = spec_of.and_then(|s| s.security_context.as_ref()).and_then(|c| c.sysctls.as_ref());
    let aliases = spec_of.and_then(|s| s.host_aliases.as_ref()).into_iter().flatten();
    Ok(SandboxSpec {
        uid: spec::uid(pod).to_owned(),
        namespace: spec::namespace(pod).to_owned(),
        name: spec::name(pod).to_owned(),
        hostname: names.hostname,
        domain: names.domain,
        resolv_conf: dns::resolver(pod, s.dns_ip, &s.domain, &s.host_resolver).text(),
        host_aliases: aliases.map(|a| (a.ip.clone(), a.hostnames.clone().unwrap_or_default())).collect(),
        host_network: spec::host_network(pod),
        sysctls: sysctls.into_iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect(),
        pids_limit: None,
        annotation: String::new(),
    })
}

async fn fetch(ctx: &Context, pod: &Pod, references: Vec<(Kind, String)>) -> Result<Sources, String> {
    let objects = references.into_iter().map(|(kind, name)| async move {
        let data = ctx.cluster.object(kind, spec::namespace(pod), &name).await;
        data.map(|data| (kind, name, data))
    });
    let mut sources = Sources::default();
    for (kind, name, data) in futures::future::try_join_all(objects).await? {
        sources.put(kind, &name, data);
    }
    Ok(sources)
}

async fn fetch_tokens(ctx: &Context, pod: &Pod) -> Result<BTreeMap<TokenAsk, String>, String> {
    let tokens = volume::tokens(pod).into_iter().map(|ask| async move {
        let token = ctx.cluster.token(pod, &ask).await;
        token.map(|token| (ask, token))
    });
    Ok(futures::future::try_join_all(tokens).await?.into_iter().collect())
}

/// Everything from the image to the running process and its postStart hook.
pub async fn start(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    attempt: i32,
    ips: PerFamily<IpAddr>,
    pid_of: Option<ContainerId>,
    cancel: &CancellationToken,
) -> Result<Started, StartError> {
    let name = container.name.as_str();
    let image = tokio::select! {
        image = image(ctx, pod, container) => image,
        () = cancel.cancelled() => return Err(StartError::Cancelled),
    };
    let fail = |failure: Failure| {
        ctx.warn(pod, Some(name), "Failed", format!("Error: {}", failure.message));
        StartError::Blocked(failure)
    };
    let image = image.map_err(StartError::Blocked)?;
    let config_error = |message| Failure { reason: "CreateContainerConfigError".into(), message };
    let spec = container_spec(ctx, pod, container, attempt, ips, &image).await.map_err(config_error);
    let spec = ContainerSpec { pid_of, ..spec.map_err(fail)? };
    if cancel.is_cancelled() {
        return Err(StartError::Cancelled);
    }
    let created = ctx.backend.create_container(spec::uid(pod), spec).await;
    let id = created.map_err(|e| fail(Failure { reason: e.reason().into(), message: e.to_string() }))?;
    ctx.normal(pod, Some(name), "Created", format!("Created container: {name}"));
    let wanted = container.image.clone().unwrap_or_default();
    if let Err(e) = ctx.backend.start_container(&id).await {
        let message = format!("failed to start container \"{}\": {e}", id.0);
        ctx.warn(pod, Some(name), "Failed", format!("Error: {message}"));
        return Err(StartError::Dead { id: id.0, image: wanted, image_id: image.id, message });
    }
    ctx.normal(pod, Some(name), "Started", format!("Started container {name}"));
    post_start(ctx, pod, container, &id, ips.primary()).await;
    Ok(Started { started_at: started_at(ctx, &id).await, id: id.0, image: wanted, image_id: image.id })
}

async fn started_at(ctx: &Context, id: &ContainerId) -> jiff::Timestamp {
    use crate::runtime::ContainerState;
    match ctx.backend.container(id).await.map(|c| c.state) {
        Ok(ContainerState::Running { started_at, .. }) => started_at,
        Ok(ContainerState::Exited(exit)) => exit.started_at,
        _ => jiff::Timestamp::now(),
    }
}

/// A container whose postStart hook fails is killed; its end is then handled like any other.
async fn post_start(ctx: &Context, pod: &Pod, container: &Container, id: &ContainerId, ip: IpAddr) {
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else { return };
    if let Err(cause) = hooks::run(ctx, hook, container, id, ip).await {
        let name = &container.name;
        tracing::debug!(pod = spec::described(pod), container = name, "postStart: {cause}");
        ctx.warn(pod, Some(name), "FailedPostStartHook", format!("PostStartHook failed: {cause}"));
        ctx.normal(pod, Some(name), "Killing", "FailedPostStartHook".into());
        let _ = ctx.backend.kill_container(id, libc::SIGKILL).await;
    }
}

fn policy(container: &Container) -> PullPolicy {
    let image = container.image.as_deref().unwrap_or_default();
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some(_) => PullPolicy::IfNotPresent,
        None if image.ends_with(":latest") => PullPolicy::Always,
        None => PullPolicy::IfNotPresent,
    }
}

async fn image(ctx: &Context, pod: &Pod, container: &Container) -> Result<ImageInfo, Failure> {
    let (name, wanted) = (container.name.as_str(), container.image.as_deref().unwrap_or_default());
    let policy = policy(container);
    if policy != PullPolicy::Always {
        match ctx.backend.ensure_image(wanted, PullPolicy::Never, &PullSecrets::default()).await {
            Ok(image) => {
                let message = format!("Container image \"{wanted}\" already present on machine");
                ctx.normal(pod, Some(name), "Pulled", message);
                return Ok(image);
            }
            Err(ImageError::NeverPull { .. }) if policy == PullPolicy::IfNotPresent => {}
            Err(e) => return Err(image_failure(ctx, pod, name, wanted, &e)),
        }
    }
    ctx.normal(pod, Some(name), "Pulling", format!("Pulling image \"{wanted}\""));
    let began = Instant::now();
    let secrets = pull_secrets(ctx, pod).await;
    match ctx.backend.ensure_image(wanted, policy, &secrets).await {
        Ok(image) => {
            let (took, size) = (began.elapsed(), image.size);
            let message = format!(
                "Successfully pulled image \"{wanted}\" in {took:.3?} ({took:.3?} including waiting). \
                 Image size: {size} bytes."
            );
            ctx.normal(pod, Some(name), "Pulled", message);
            Ok(image)
        }
        Err(e) => Err(image_failure(ctx, pod, name, wanted, &e)),
    }
}

fn image_failure(ctx: &Context, pod: &Pod, name: &str, image: &str, error: &ImageError) -> Failure {
    let (reason, message) = (error.reason().to_owned(), error.to_string());
    let told = match reason.as_str() {
        "ErrImageNeverPull" | "InvalidImageName" => message.clone(),
        _ => format!("Failed to pull image \"{image}\": {message}"),
    };
    ctx.warn(pod, Some(name), "Failed", told);
    ctx.warn(pod, Some(name), "Failed", format!("Error: {reason}"));
    Failure { reason, message }
}

async fn pull_secrets(ctx: &Context, pod: &Pod) -> PullSecrets {
    let mut credentials = Vec::new();
    let named = pod.spec.as_ref().and_then(|s| s.image_pull_secrets.as_ref()).into_iter().flatten();
    for secret in named {
        match ctx.cluster.object(Kind::Secret, spec::namespace(pod), &secret.name).await {
            Ok(Some(data)) => credentials.extend(super::secrets::credentials(&data)),
            Ok(None) | Err(_) => {
                let message = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    secret.name
                );
                ctx.warn(pod, None, "FailedToRetrieveImagePullSecret", message);
            }
        }
    }
    PullSecrets { credentials }
}

async fn container_spec(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    attempt: i32,
    ips: PerFamily<IpAddr>,
    image: &ImageInfo,
) -> Result<ContainerSpec, String> {
    let security = identity::security(pod, container);
    identity::verify_non_root(&security, &image.config.user)
        .map_err(|why| format!("{why} (pod: \"{}\", container: {})", spec::described(pod), container.name))?;
    let sources = fetch(ctx, pod, vars::references(container)).await?;
    let all = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let services = ctx.cluster.service_variables(spec::namespace(pod), all).await;
    let env = container_env(pod, container, &ctx.place(Some(ips)), &sources, &services).map_err(|e| e.0)?;
    let lookup = |name: &str| env.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    let expanded = |words: &Option<Vec<String>>| {
        words.as_ref().filter(|w| !w.is_empty()).map(|w| w.iter().map(|w| expand(w, lookup)).collect())
    };
    let dir = ctx.backend.volumes_dir(spec::uid(pod));
    Ok(ContainerSpec {
        name: container.name.clone(),
        attempt: u32::try_from(attempt).unwrap_or(0),
        image_id: image.id.clone(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        mounts: volume::container_mounts(pod, container, &dir, &env)?,
        working_dir: container.working_dir.clone().filter(|d| !d.is_empty()),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        resources: identity::resources(container),
        security,
        pid_of: None,
        oom_score_adj: identity::oom_score_adj(pod, container, ctx.settings.memory),
        termination_message_path: container.termination_message_path.clone().unwrap_or_default(),
        env,
    })
}
