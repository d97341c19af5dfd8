//! The image store: archives good and bad, and a real registry.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::*;
use daymark_node::image::*;
use daymark_node::runtime::Runtime;

struct Shop {
    dir: tempfile::TempDir,
    store: Store,
}

impl Shop {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(&dir.path().join("images")).expect("opens");
        Self { dir, store }
    }

    fn load(&self, bytes: &[u8]) -> Result<Vec<ImageInfo>, ImageError> {
        let path = self.dir.path().join("archive.tar");
        std::fs::write(&path, bytes).expect("writes");
        self.store.load(&path)
    }

    /// Unpacked layers and half-done work.
    fn contents(&self) -> (Vec<PathBuf>, usize) {
        let root = self.dir.path().join("images");
        let list =
            |name: &str| std::fs::read_dir(root.join(name)).expect("lists").flatten().map(|e| e.path());
        (list("layers").filter(|path| path.is_dir()).collect(), list("tmp").count())
    }

    fn nothing_left(&self) {
        assert_eq!(self.contents(), (Vec::new(), 0));
        assert!(self.store.list().expect("lists").is_empty());
    }
}

fn small_layer(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in members {
        entry(&mut tar, tar::EntryType::Regular, name, 0o644, content);
    }
    tar.into_inner().expect("tar")
}

/// A tar member whose name the tar crate would refuse to write.
fn raw_member(name: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().div_ceil(512) * 512, 0);
    bytes
}

#[test]
fn docker_archives_load_plain_and_compressed_and_are_removed_by_name() {
    let shop = Shop::new();
    let bytes = archive("amd64", &small_layer(&[("hello", b"world")]), &["shop/web:1", "shop/web:2"]);
    let loaded = shop.load(&bytes).expect("loads");
    assert_eq!(loaded[0].tags, ["docker.io/shop/web:1", "docker.io/shop/web:2"]);
    assert_eq!((loaded[0].size, loaded[0].config.cmd.join(" ").as_str()), (5, "sh"));
    assert_eq!(shop.load(&gzip(&bytes)).expect("loads again")[0].id, loaded[0].id);
    let squeezed = zstd::encode_all(&*bytes, 1).expect("compresses");
    assert_eq!(shop.load(&squeezed).expect("loads again")[0].id, loaded[0].id);
    assert_eq!(shop.contents().0.len(), 1, "one layer, unpacked once");
    assert_eq!(std::fs::read(shop.contents().0[0].join("hello")).expect("unpacked"), b"world");
    assert!(!shop.store.remove("shop/web:1").expect("removes"));
    assert!(shop.store.remove("shop/web:2").expect("removes"));
    shop.nothing_left();
    assert!(matches!(shop.store.remove("shop/web:2"), Err(ImageError::NotPresent { .. })));
}

#[test]
fn bad_archives_are_refused_and_leave_nothing() {
    let layer = small_layer(&[("hello", b"world")]);
    let good = archive("amd64", &layer, &["shop/web:1"]);
    let mut flipped = good.clone();
    let place = flipped.windows(5).position(|w| w == b"world").expect("content");
    flipped[place] = b'W';
    let other = archive("arm64", &layer, &["shop/web:1"]);
    let mut shortened = gzip(&good);
    shortened.truncate(shortened.len() / 2);
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("not a tar", b"this is no archive at all, only text".repeat(100), "not a proper tar archive"),
        ("empty", Vec::new(), "neither a docker archive"),
        ("cut short", good[..good.len() / 3].to_vec(), "corrupt"),
        ("compressed and cut short", shortened, "corrupt"),
        ("changed content", flipped, "instead of sha256:"),
        ("another machine", other, "is for linux/arm64, not for linux/amd64"),
        ("without manifest", layer.clone(), "neither a docker archive"),
        ("bzip2", b"BZh91AY&SY".to_vec(), "bzip2 compression is not supported"),
    ];
    for (name, bytes, wanted) in cases {
        let shop = Shop::new();
        let error = shop.load(&bytes).expect_err(name).to_string();
        assert!(error.contains(wanted), "{name}: {error}");
        assert!(error.contains("archive.tar"), "{name} names the file: {error}");
        shop.nothing_left();
    }
}

#[test]
fn layers_cannot_write_outside_or_through_links() {
    let outside = tempfile::tempdir().expect("tempdir");
    let target = outside.path().display().to_string();
    let dots = format!("../../../../../../../..{target}/dots");
    let hostile: [(&str, Vec<u8>); 4] = [
        ("dots", raw_member(&dots, tar::EntryType::Regular, "", b"evil")),
        (
            "through a link",
            [
                raw_member("link", tar::EntryType::Symlink, &target, b""),
                raw_member("link/through", tar::EntryType::Regular, "", b"evil"),
            ]
            .concat(),
        ),
        ("hard link", raw_member("shadow", tar::EntryType::Link, "../../../../etc/passwd", b"")),
        (
            "over a link",
            [
                raw_member("file", tar::EntryType::Symlink, &format!("{target}/over"), b""),
                raw_member("file", tar::EntryType::Regular, "", b"evil"),
            ]
            .concat(),
        ),
    ];
    for (name, mut layer) in hostile {
        layer.extend([0; 1024]);
        let shop = Shop::new();
        let _ = shop.load(&archive("amd64", &layer, &["shop/evil:1"]));
        assert_eq!(std::fs::read_dir(outside.path()).expect("lists").count(), 0, "{name}");
        let passwd = inode(Path::new("/etc/passwd"));
        for layer in shop.contents().0 {
            assert!(!layer.join("shadow").exists() || inode(&layer.join("shadow")) != passwd, "{name}");
        }
    }
}

#[test]
fn whiteouts_links_and_modes_become_what_overlayfs_knows() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, tar::EntryType::Directory, "dir/", 0o1777, &[]);
    entry(&mut tar, tar::EntryType::Regular, "dir/.wh.gone", 0, &[]);
    entry(&mut tar, tar::EntryType::Directory, "fresh/", 0o755, &[]);
    entry(&mut tar, tar::EntryType::Regular, "fresh/.wh..wh..opq", 0, &[]);
    entry(&mut tar, tar::EntryType::Regular, "dir/tool", 0o4755, b"tool");
    let mut layer = tar.into_inner().expect("tar");
    layer.truncate(layer.len() - 1024);
    layer.extend(raw_member("dir/same", tar::EntryType::Link, "dir/tool", b""));
    layer.extend([0; 1024]);
    let shop = Shop::new();
    shop.load(&archive("amd64", &layer, &["shop/x:1"])).expect("loads");
    let root = &shop.contents().0[0];
    let gone = std::fs::symlink_metadata(root.join("dir/gone")).expect("whiteout");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(std::fs::metadata(root.join("dir")).expect("dir").mode() & 0o7777, 0o1777);
    assert_eq!(std::fs::metadata(root.join("dir/tool")).expect("tool").mode() & 0o7777, 0o4755);
    assert_eq!(inode(&root.join("dir/tool")), inode(&root.join("dir/same")));
    let mut value = [0; 4];
    let opaque = rustix::fs::getxattr(root.join("fresh"), "trusted.overlay.opaque", &mut value);
    assert_eq!((opaque, value[0]), (Ok(1), b'y'));
}

#[test]
fn oci_layouts_load_and_the_right_platform_is_chosen() {
    let layer = small_layer(&[("hello", b"oci")]);
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    let mut manifest = |architecture: &str| {
        let config = image_config(architecture, &layer);
        let packed = gzip(&layer);
        let manifest = serde_json::json!({"schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(&packed), "size": packed.len()}]});
        let manifest = manifest.to_string().into_bytes();
        let id = digest(&manifest);
        blobs.extend([config, packed, manifest]);
        serde_json::json!({"digest": id, "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest("arm64"), manifest("amd64")]});
    let index = index.to_string().into_bytes();
    let top = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"digest": digest(&index), "annotations": {"io.containerd.image.name": "docker.io/shop/oci:1"}}]});
    blobs.push(index);
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, tar::EntryType::Regular, "oci-layout", 0o644, b"{\"imageLayoutVersion\":\"1.0.0\"}");
    entry(&mut tar, tar::EntryType::Regular, "index.json", 0o644, top.to_string().as_bytes());
    for blob in &blobs {
        let name = format!("blobs/{}", digest(blob).replace(':', "/"));
        entry(&mut tar, tar::EntryType::Regular, &name, 0o644, blob);
    }
    let shop = Shop::new();
    let loaded = shop.load(&tar.into_inner().expect("tar")).expect("loads");
    assert_eq!(loaded[0].tags, ["docker.io/shop/oci:1"]);
    assert_eq!(loaded[0].id, digest(&image_config("amd64", &layer)));
}

#[test]
fn what_a_container_uses_is_not_removed() {
    on_node(|node| async move {
        let runtime = node.open().await;
        node.pod(&runtime, "a1").await;
        run(&runtime, "a1", shell("main", &busybox(&runtime), "sleep 1000")).await;
        let error = runtime.images().remove("test/busybox").expect_err("in use");
        assert!(matches!(error, ImageError::InUse { .. }), "{error}");
        let error = runtime.images().remove("daymark/web:v1").expect_err("built in");
        assert!(error.to_string().contains("part of daymark itself"), "{error}");
        runtime.remove_sandbox("a1").await.expect("removes");
        assert!(runtime.images().remove("test/busybox").expect("removes"));
    });
}

#[test]
fn policies_decide_without_a_registry_where_they_can() {
    on_node(|node| async move {
        let runtime = node.open().await;
        let none = PullSecrets::default();
        let ensure = |image: &'static str, policy| {
            let (runtime, none) = (runtime.clone(), none.clone());
            async move { runtime.ensure_image(image, policy, &none).await }
        };
        assert!(ensure("test/busybox", PullPolicy::IfNotPresent).await.is_ok());
        assert!(ensure("test/busybox:latest", PullPolicy::Never).await.is_ok());
        assert!(ensure("daymark/web", PullPolicy::Always).await.expect("built in").builtin);
        assert_ne!(
            ensure("daymark/web:v1", PullPolicy::Never).await.expect("v1").id,
            ensure("daymark/web:v2", PullPolicy::Never).await.expect("v2").id
        );
        let error = ensure("ghost:1", PullPolicy::Never).await.expect_err("never");
        assert_eq!(error.reason(), "ErrImageNeverPull");
        assert_eq!(
            ensure("Bad Name", PullPolicy::Never).await.expect_err("bad").reason(),
            "InvalidImageName"
        );
        // Nothing listens there: the error says who was asked.
        let error = ensure("127.0.0.1:9/ghost:1", PullPolicy::IfNotPresent).await.expect_err("nobody");
        assert_eq!(error.reason(), "ErrImagePull");
        assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
    });
}

/// Debian's `docker-registry` on a port of its own.
struct Registry {
    process: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    async fn start(password: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port").port();
        let address = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            dir.path().join("data").display()
        );
        if let Some(line) = password {
            std::fs::write(dir.path().join("htpasswd"), line).expect("writes");
            config += &format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                dir.path().join("htpasswd").display()
            );
        }
        let path = dir.path().join("config.yml");
        std::fs::File::create(&path).and_then(|mut file| file.write_all(config.as_bytes())).expect("writes");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry: install the package docker-registry");
        let registry = Self { process, address, _dir: dir };
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(&registry.address).await.is_ok() {
                return registry;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the registry does not listen");
    }

    /// Pushes an archive with skopeo.
    fn push(&self, archive: &Path, name: &str, credentials: Option<&str>) {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        if let Some(credentials) = credentials {
            command.args(["--dest-creds", credentials]);
        }
        command.arg(format!("docker-archive:{}", archive.display()));
        let output =
            command.arg(format!("docker://{}/{name}", self.address)).output().expect("skopeo: install it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn loopback_up() {
    let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
    tokio::spawn(connection);
    let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
    handle.link().set(up).execute().await.expect("lo");
}

async fn pull(runtime: &Runtime, image: &str, policy: PullPolicy) -> Result<ImageInfo, ImageError> {
    runtime.ensure_image(image, policy, &PullSecrets::default()).await
}

#[test]
fn images_are_pulled_from_a_registry_by_tag_and_digest_and_mirror() {
    on_node(|node| async move {
        loopback_up().await;
        let registry = Registry::start(None).await;
        let archive_path = node.dir.path().join("a.tar");
        std::fs::write(&archive_path, archive("amd64", &busybox_layer(), &["x/busy:1"])).expect("writes");
        registry.push(&archive_path, "x/busy:1", None);
        let mut config = node.config();
        config.registries.mirrors.insert("docker.io".into(), vec![registry.address.clone()]);
        let runtime = Runtime::open(config).await.expect("opens");
        let name = format!("{}/x/busy:1", registry.address);
        let info = pull(&runtime, &name, PullPolicy::IfNotPresent).await.expect("pulls");
        assert_eq!(info.tags, std::slice::from_ref(&name));
        assert_eq!(info.digests.len(), 1);
        let by_digest = pull(&runtime, &info.digests[0], PullPolicy::Always).await.expect("pulls by digest");
        assert_eq!(by_digest.id, info.id);
        let mirrored =
            pull(&runtime, "x/busy:1", PullPolicy::IfNotPresent).await.expect("pulls from the mirror");
        assert!(mirrored.tags.contains(&"docker.io/x/busy:1".to_owned()), "{:?}", mirrored.tags);
        node.pod(&runtime, "a1").await;
        let (log, exit) = output(&runtime, "a1", shell("main", &info.id, "echo pulled")).await;
        assert!(exit.code == 0 && log.contains("pulled"), "{log}");
        let missing = format!("{}/x/ghost:1", registry.address);
        let error = pull(&runtime, &missing, PullPolicy::IfNotPresent).await.expect_err("missing");
        assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
        std::fs::write(&archive_path, archive("arm64", &busybox_layer(), &["x/arm:1"])).expect("writes");
        registry.push(&archive_path, "x/arm:1", None);
        let error = pull(&runtime, &format!("{}/x/arm:1", registry.address), PullPolicy::Always).await;
        assert!(error.expect_err("wrong machine").to_string().contains("is for linux/arm64"));
    });
}

#[test]
fn a_registry_with_passwords_wants_the_right_secret() {
    on_node(|node| async move {
        loopback_up().await;
        // The hash of "password", as `htpasswd -B` writes it.
        let line = "user:$2y$05$86YDZbp3KXjxvDCGLSrYZe5CV8BFNCwwKwdYHIh4NDfL8R4QekXFe\n";
        let registry = Registry::start(Some(line)).await;
        let archive_path = node.dir.path().join("a.tar");
        std::fs::write(&archive_path, archive("amd64", &small_layer(&[("a", b"b")]), &["x/p:1"]))
            .expect("writes");
        registry.push(&archive_path, "x/p:1", Some("user:password"));
        let runtime = Runtime::open(node.config()).await.expect("opens");
        let name = format!("{}/x/p:1", registry.address);
        let error = pull(&runtime, &name, PullPolicy::IfNotPresent).await.expect_err("anonymous");
        assert!(matches!(error, ImageError::Unauthorized { .. }), "{error:?}");
        let secrets = |password: &str| PullSecrets {
            credentials: vec![RegistryCredential {
                registry: registry.address.clone(),
                username: "user".into(),
                password: password.into(),
            }],
        };
        let error = runtime.ensure_image(&name, PullPolicy::IfNotPresent, &secrets("wrong")).await;
        assert!(matches!(error, Err(ImageError::Unauthorized { .. })), "{error:?}");
        runtime.ensure_image(&name, PullPolicy::IfNotPresent, &secrets("password")).await.expect("pulls");
    });
}
