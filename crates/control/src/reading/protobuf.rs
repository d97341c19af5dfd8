//! Reads watches in protobuf.

use daymark_model::wire::protobuf::{self, Malformed};
use kube::Resource;
use kube::core::Status;

use super::{Kind, Said, bookmark, said};

/// Reads one frame.
pub(super) fn event<K: Kind>(frame: &[u8], version: &mut String) -> Result<Said, Malformed> {
    let event = protobuf::event(frame)?;
    if event.what == "ERROR" {
        return Ok(Said::Failure(status(&event.object(STATUS)?).boxed()));
    }
    let object: K::Object<'_> = event.object(&K::Whole::kind(&()))?;
    match event.what {
        "BOOKMARK" => Ok(bookmark(K::metadata(&object), version)),
        what => Ok(said::<K>(what, object, version)),
    }
}

pub(super) fn refusal(body: &[u8]) -> Result<Status, Malformed> {
    protobuf::object(body, STATUS).map(|told| status(&told))
}

const STATUS: &str = "Status";

fn status(told: &protobuf::Status<'_>) -> Status {
    Status::failure(told.message, told.reason).with_code(u16::try_from(told.code).unwrap_or_default())
}
