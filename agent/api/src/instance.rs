//! Where the agent of an instance serves.

use std::path::{Path, PathBuf};

/// The folder of every instance's socket.
pub const FOLDER: &str = "/run/causeway";

/// The instance of verbs and requests that name none.
pub const DEFAULT_INSTANCE: &str = "default";

/// The path of the socket of an instance's agent.
pub fn socket(instance: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{instance}.sock"))
}
