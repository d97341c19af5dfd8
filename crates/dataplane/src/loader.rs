//! Loads an ELF object with BPF programs, on top of aya's parser.
//!
//! aya's own loader reads the kernel's type information first, which takes tens of milliseconds and as
//! many megabytes, for relocations that our programs do not have.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use aya_obj::btf::BtfFeatures;
use aya_obj::maps::PinningType;
use aya_obj::{Function, Map, Object};

use crate::error::Error;
use crate::sys;

/// A program to load: its function's name, its type and where it will be attached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub name: &'static str,
    pub program_type: u32,
    pub attach_type: u32,
}

/// Bytes aligned as an ELF parser wants them.
#[repr(C, align(16))]
pub(crate) struct Aligned<T: ?Sized>(pub T);

fn failed(program: &'static str) -> impl FnOnce(String) -> Error {
    move |cause| Error::Load { program, cause }
}

/// Loads the programs wanted from an object. Pinned maps are opened, or made and pinned, in a directory,
/// with as many entries as `entries_of` says, if it knows. `constants` are those that are not known before.
pub(crate) fn load(
    object: &'static str,
    bytes: &[u8],
    wanted: &[Wanted],
    constants: &[(&str, &[u8])],
    directory: &Path,
    entries_of: impl Fn(&str) -> Option<u32>,
) -> Result<Vec<(&'static str, OwnedFd)>, Error> {
    let fail = |error: &dyn std::fmt::Display| failed(object)(error.to_string());
    let mut parsed = Object::parse(bytes).map_err(|error| fail(&error))?;
    let constants = constants.iter().map(|(name, value)| (*name, (*value, true)));
    parsed.patch_map_data(constants.collect()).map_err(|error| fail(&error))?;
    // All of this is older than the oldest kernel that we support.
    let features = BtfFeatures::new(true, true, true, true, true, true, true, true);
    let types = parsed.fixup_and_sanitize_btf(&features).map_err(|error| fail(&error))?;
    let types =
        types.map(|types| sys::load_btf(&types.to_bytes())).transpose().map_err(|error| fail(&error))?;

    let mut maps = Vec::new();
    for (name, mut map) in std::mem::take(&mut parsed.maps) {
        if let Some(entries) = entries_of(&name) {
            map.set_max_entries(entries);
        }
        let fd = open_map(&name, &map, types.as_ref(), directory)
            .map_err(|error| failed(object)(format!("map {name}: {error}")))?;
        maps.push((name, fd, map));
    }
    let text = parsed.functions.keys().map(|(section, _)| *section).collect();
    let by_name = maps.iter().map(|(name, fd, map)| (name.as_str(), fd.as_raw_fd(), map));
    parsed.relocate_maps(by_name, &text).map_err(|error| fail(&error))?;
    parsed.relocate_calls(&text).map_err(|error| fail(&error))?;

    wanted
        .iter()
        .map(|wanted| {
            let program = parsed
                .programs
                .get(wanted.name)
                .and_then(|program| parsed.functions.get(&program.function_key()))
                .ok_or_else(|| failed(wanted.name)("it is not in the object".into()))?;
            let fd = load_program(wanted, program, types.as_ref())?;
            Ok((wanted.name, fd))
        })
        .collect()
}

/// Opens the pinned map of that name, or makes one; unpinned maps are always new.
fn open_map(name: &str, map: &Map, types: Option<&OwnedFd>, directory: &Path) -> std::io::Result<OwnedFd> {
    let path = directory.join(name);
    let pinned = map.pinning() == PinningType::ByName;
    if pinned {
        match sys::open_pinned(&path) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            opened => return opened,
        }
    }
    let type_ids = match (map, types) {
        (Map::Btf(map), Some(types)) => {
            Some((types.as_fd(), map.def.btf_key_type_id, map.def.btf_value_type_id))
        }
        _ => None,
    };
    let fd = sys::create_map(&sys::MapShape {
        name,
        map_type: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
        type_ids,
    })?;
    if pinned {
        sys::pin(fd.as_fd(), &path)?;
    } else if !map.data().is_empty() {
        // Constants that the compiler put aside.
        sys::fill_constants(fd.as_fd(), map.data())?;
    }
    Ok(fd)
}

fn load_program(wanted: &Wanted, program: &Function, types: Option<&OwnedFd>) -> Result<OwnedFd, Error> {
    let functions = program.func_info.func_info_bytes();
    let shape = sys::ProgramShape {
        name: wanted.name,
        program_type: wanted.program_type,
        attach_type: wanted.attach_type,
        instructions: &program.instructions,
        types: types.map(AsFd::as_fd),
        functions: (program.func_info_rec_size, program.func_info.len(), &functions),
    };
    sys::load_typed_program(&shape, &mut []).map_err(|error| {
        // Once more, for the verifier's reasons.
        let mut log = vec![0; 1 << 20];
        let _ = sys::load_typed_program(&shape, &mut log);
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        let text = String::from_utf8_lossy(&log[..end]);
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        failed(wanted.name)(format!("{error}\n{}", last.join("\n")))
    })
}
