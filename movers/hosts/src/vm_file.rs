//! `vm.yaml`: what a VM's folder says about itself. Everything in it is optional:
//!
//! ```yaml
//! disks: [system.raw, data.raw]        # which files are its disks, in order
//! stamps: {disk: system.raw, offset: 1048576, length: 262144}
//! origin: {site: hq, host: lab, vm: web}
//! ```
//!
//! `stamps` is an area that the guest may overwrite with its stamps; offset and length are multiples of 4096
//! bytes. `origin` is the VM that this one stands for (restored, or the working VM of a replica).

use crate::error::{HostError, Result};
use crate::stamps::STAMP_BLOCK;
use farshore_schemas::ids::{DiskName, Name, SiteName, VmName, VmRef};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// The file's name.
pub(crate) const VM_FILE: &str = "vm.yaml";
/// A file longer than this is refused.
const LONGEST: u64 = 64 * 1024;
/// A guest reads the whole area when it starts.
const LARGEST_AREA: u64 = 16 * 1024 * 1024;

/// Where on a disk a guest may write stamps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StampsArea {
    /// The disk.
    pub disk: DiskName,
    /// First byte; a multiple of 4096.
    pub offset: u64,
    /// Bytes; a multiple of 4096.
    pub length: u64,
}

/// What `vm.yaml` says, checked in itself (not yet against the folder).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VmFile {
    pub(crate) disks: Option<Vec<DiskName>>,
    pub(crate) stamps: Option<StampsArea>,
    /// Line and column of the stamps area.
    pub(crate) stamps_at: (u64, u64),
    pub(crate) origin: Option<VmRef>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    disks: Option<Vec<Spanned<DiskName>>>,
    stamps: Option<Spanned<StampsArea>>,
    origin: Option<OriginDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OriginDocument {
    site: SiteName,
    host: Name,
    vm: VmName,
}

impl VmFile {
    /// Reads a VM's file; none when there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<VmFile>> {
        let path = dir.join(VM_FILE);
        let file = match crate::image::open(&path, crate::image::Access::Read) {
            Ok(file) => file,
            Err(HostError::DiskMissing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(HostError::io("reading", &path))?;
        let wrong =
            |message: &str| HostError::VmYaml { path: path.clone(), line: 1, column: 1, message: message.to_owned() };
        if bytes.len() as u64 > LONGEST {
            return Err(wrong("the file is longer than 64 KiB"));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong("the file is not UTF-8 text"))?;
        VmFile::parse(&path, &text).map(Some)
    }

    /// Parses the text of the file at `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<VmFile> {
        let at = |location: Option<serde_saphyr::Location>, message: String| HostError::VmYaml {
            path: path.to_owned(),
            line: location.map_or(1, |l| l.line().max(1)),
            column: location.map_or(1, |l| l.column().max(1)),
            message,
        };
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(VmFile::default());
        }
        let document: Document =
            serde_saphyr::from_str(text).map_err(|error| at(error.location(), message_of(&error)))?;
        let mut disks = None;
        if let Some(listed) = document.disks {
            let mut seen = BTreeSet::new();
            for disk in &listed {
                if disk.value.as_str() == VM_FILE || !seen.insert(disk.value.clone()) {
                    let what = if disk.value.as_str() == VM_FILE { "is no disk" } else { "is listed twice" };
                    return Err(at(Some(disk.referenced), format!("disks: {} {what}", disk.value)));
                }
            }
            if listed.is_empty() {
                return Err(at(None, "disks: the list is empty; leave the field out or name the images".to_owned()));
            }
            disks = Some(listed.into_iter().map(|disk| disk.value).collect());
        }
        let mut stamps = None;
        let mut stamps_at = (1, 1);
        if let Some(area) = document.stamps {
            if let Some(rule) = area.value.broken_rule() {
                return Err(at(Some(area.referenced), format!("stamps: {rule}")));
            }
            stamps_at = (area.referenced.line(), area.referenced.column());
            stamps = Some(area.value);
        }
        let origin = document.origin.map(|o| VmRef { site: o.site, host: o.host, vm: o.vm });
        Ok(VmFile { disks, stamps, stamps_at, origin })
    }

    /// The file's text. Names are quoted as JSON strings, which YAML reads alike.
    pub(crate) fn text(&self) -> String {
        let quote = |name: &str| serde_json::Value::from(name).to_string();
        let mut text = String::new();
        if let Some(disks) = &self.disks {
            let names: Vec<String> = disks.iter().map(|disk| quote(disk.as_str())).collect();
            text.push_str(&format!("disks: [{}]\n", names.join(", ")));
        }
        if let Some(area) = &self.stamps {
            let disk = quote(area.disk.as_str());
            text.push_str(&format!("stamps: {{disk: {disk}, offset: {}, length: {}}}\n", area.offset, area.length));
        }
        if let Some(origin) = &self.origin {
            let (site, host, vm) =
                (quote(origin.site.as_str()), quote(origin.host.as_str()), quote(origin.vm.as_str()));
            text.push_str(&format!("origin: {{site: {site}, host: {host}, vm: {vm}}}\n"));
        }
        text
    }
}

impl StampsArea {
    /// The rule that the area breaks in itself.
    fn broken_rule(&self) -> Option<&'static str> {
        if self.length == 0 || self.length > LARGEST_AREA {
            return Some("length must be 4096 bytes to 16 MiB");
        }
        if !self.offset.is_multiple_of(STAMP_BLOCK) || !self.length.is_multiple_of(STAMP_BLOCK) {
            return Some("offset and length must be multiples of 4096");
        }
        if self.offset.checked_add(self.length).is_none() {
            return Some("offset plus length is too large");
        }
        None
    }
}

/// The parser's message without the place at its end, which the error tells itself.
fn message_of(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let place = error.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
    let message = place.and_then(|place| line.strip_suffix(place.as_str())).unwrap_or(line);
    message.chars().take(300).collect()
}
