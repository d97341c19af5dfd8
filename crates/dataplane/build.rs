//! Compiles the BPF programs with clang, and generates the Rust types of `bpf/abi.h`.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const OBJECTS: [&str; 2] = ["socket", "packet"];

fn main() {
    let source = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../../bpf");
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo"));
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-env-changed=CLANG");
    for object in OBJECTS {
        compile(&source.join(format!("{object}.bpf.c")), &out.join(format!("{object}.bpf.o")));
    }
    let header = fs::read_to_string(source.join("abi.h")).expect("bpf/abi.h is readable");
    fs::write(out.join("abi.rs"), rust_types(&header)).expect("OUT_DIR is writable");
}

fn compile(source: &Path, object: &Path) {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let machine = env::var("CARGO_CFG_TARGET_ARCH").expect("set by cargo");
    let status = Command::new(&clang)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        // Where Debian keeps asm/types.h; elsewhere it is on the default path.
        .arg(format!("-I/usr/include/{machine}-linux-gnu"))
        // No paths of the build machine in the binary.
        .arg(format!("-fdebug-prefix-map={}=.", source.parent().expect("is a file").display()))
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(object)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{clang} failed on {}: {status}", source.display()),
        Err(error) => {
            panic!("cannot run {clang}: {error}; install the packages clang and linux-libc-dev, or set CLANG")
        }
    }
}

/// Translates the subset of C that abi.h keeps to. Anything else stops the build.
fn rust_types(header: &str) -> String {
    let header = without_comments(header);
    let mut rust = String::new();
    let mut lines = header.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut unchecked: Option<String> = None;
    while let Some(line) = lines.next() {
        if let Some(define) = line.strip_prefix("#define ") {
            if let Some((name, value)) = define.split_once(' ') {
                writeln!(rust, "pub const {name}: u32 = {value};").expect("strings take any text");
            }
        } else if let Some(name) = line.strip_prefix("struct ").and_then(|rest| rest.strip_suffix(" {")) {
            assert!(unchecked.is_none(), "abi.h: {unchecked:?} lacks its size assertion");
            let fields = lines.by_ref().take_while(|line| *line != "};").map(field).collect::<Vec<_>>();
            rust.push_str(&rust_struct(name, &fields));
            unchecked = Some(name.to_owned());
        } else if let Some(assertion) = line.strip_prefix("_Static_assert(sizeof(struct ") {
            let (name, rest) = assertion.split_once(") == ").expect("abi.h: size assertion");
            let size = rest.split(',').next().expect("split gives at least one");
            assert_eq!(unchecked.take().as_deref(), Some(name), "abi.h: assertion beside its struct");
            let name = camel_case(name);
            writeln!(rust, "const _: () = assert!(size_of::<{name}>() == {size});")
                .expect("strings take any text");
        } else {
            assert!(line.starts_with('#'), "abi.h: not understood: {line}");
        }
    }
    assert!(unchecked.is_none(), "abi.h: {unchecked:?} lacks its size assertion");
    rust
}

fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        kept.push_str(before);
        rest = after.split_once("*/").expect("abi.h: comment without end").1;
    }
    kept + rest
}

/// `__u32 ip[4];` to name, Rust type and size.
fn field(line: &str) -> (String, String, usize) {
    let (c_type, name) = line.strip_suffix(';').and_then(|line| line.split_once(' ')).expect("abi.h: field");
    let (rust_type, size) = match c_type {
        "__u8" => ("u8", 1),
        "__u16" => ("u16", 2),
        "__u32" => ("u32", 4),
        "__u64" => ("u64", 8),
        other => panic!("abi.h: type {other} is not supported"),
    };
    match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        None => (name.into(), rust_type.into(), size),
        Some((name, length)) => {
            let count: usize = length.parse().expect("abi.h: array length");
            (name.into(), format!("[{rust_type}; {count}]"), size * count)
        }
    }
}

fn rust_struct(name: &str, fields: &[(String, String, usize)]) -> String {
    let name = camel_case(name);
    let body: String = fields.iter().map(|(field, kind, _)| format!("    pub {field}: {kind},\n")).collect();
    let size: usize = fields.iter().map(|(_, _, size)| size).sum();
    format!(
        "#[repr(C)]\n#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         pub struct {name} {{\n{body}}}\n\
         // Padding would be uninitialized bytes in map keys.\n\
         const _: () = assert!(size_of::<{name}>() == {size});\n\
         // SAFETY: integers without padding, as asserted above.\n\
         unsafe impl crate::sys::Plain for {name} {{}}\n"
    )
}

fn camel_case(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        })
        .collect()
}
