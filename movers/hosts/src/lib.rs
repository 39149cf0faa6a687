//! Host drivers. Today one: a folder whose sub-folders are VMs with raw disk images, and a small guest process that
//! stands for each VM that runs. Agents call [`FolderHost`]; the binary calls [`guest_main`] for its hidden verb `guest`.
//!
//! What this crate does not do: decide who may run (the task table keeps the epochs), move data, or keep replicas.

mod content;
mod cow;
mod demo;
mod error;
mod fat;
mod folder;
mod guest;
mod image;
mod make;
mod power;
mod process;
mod reader;
mod run;
mod snapshot;
mod stamps;
mod talk;
mod vm_file;
mod volume;

pub use demo::{DemoVm, SCRATCH_DISK};
pub use error::{HostError, Result};
pub use folder::{FolderHost, LEFT_OUT, Listing, OWN_PREFIX, Problem};
pub use guest::guest_main;
pub use make::NewVm;
pub use power::{PowerOn, PoweredOff, VmStatus};
pub use process::ProcessId;
pub use reader::SnapshotReader;
pub use run::GuestRecord;
pub use snapshot::SnapshotFacts;
pub use stamps::{STAMP_BLOCK, Stamp, read_stamps};
pub use talk::GuestStatus;
pub use vm_file::StampsArea;
pub use volume::read_files;
