//! What operators write: YAML documents with `apiVersion: farshore/v1`, a kind, a name and a spec. Parsed here into the
//! commands that define things; unknown fields, wrong types and duplicate names are refused with line and column. Used by the
//! command line (to refuse early) and by the API (which trusts nobody).

use crate::keep_yaml::KeepYaml;
use crate::repository_yaml::RepositoryYaml;
use crate::yaml_error;
use farshore_schemas::ids::{EntityId, Kind, Name, SiteName, VmName};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::host::{self, Driver, HostSpec};
use farshore_schemas::messages::job::{self, JobSpec, Retry, Schedule, Work};
use farshore_schemas::messages::mover::{self, MoverSpec, Role};
use farshore_schemas::messages::plan::{self, PlanSpec, Step};
use farshore_schemas::messages::repository;
use farshore_schemas::messages::site::{self, SiteSpec};
use farshore_schemas::units::Millis;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;

/// The only version there is.
pub const API_VERSION: &str = "farshore/v1";
/// Documents of one file; more is a mistake.
const MAX_DOCUMENTS: usize = 1_000;
/// Bytes of one file.
pub const MAX_BYTES: usize = 1024 * 1024;

/// A thing to be defined.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Which actor it defines.
    pub id: EntityId,
    /// The command that defines it.
    pub message: Message,
    /// Line of its name in the text, from 1.
    pub line: u64,
    /// For a Site: the site that the document is about. Its actor has the same name at every site.
    pub site: Option<String>,
}

/// Why a text defines nothing. Nothing of it is applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("FS-YAML-{code}: line {line}, column {column}: {message}")]
pub struct YamlError {
    /// Last part of the stable code.
    pub code: &'static str,
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
    /// What is wrong there, and what to write instead.
    pub message: String,
}

/// Parses all documents of a text.
///
/// # Errors
/// [`YamlError`] at the first thing that is wrong.
pub fn parse(text: &str) -> Result<Vec<Resource>, YamlError> {
    if text.len() > MAX_BYTES {
        let message =
            format!("the text has {} bytes, {MAX_BYTES} are allowed: split it into several files", text.len());
        return Err(YamlError { code: "SIZE", line: 1, column: 1, message });
    }
    let documents: Vec<Document> = serde_saphyr::from_multiple(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        YamlError { code: "SYNTAX", line, column, message: yaml_error::said(&error) }
    })?;
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        let message = format!("there are {} documents, 1 to {MAX_DOCUMENTS} are expected", documents.len());
        return Err(YamlError { code: "COUNT", line: 1, column: 1, message });
    }
    let mut seen: BTreeMap<EntityId, u64> = BTreeMap::new();
    let mut resources = Vec::with_capacity(documents.len());
    for document in documents {
        let resource = document.resource()?;
        if let Some(first) = seen.insert(resource.0.id.clone(), resource.0.line) {
            let message = format!(
                "{} is defined twice, first in line {first}: remove one, or give it another name",
                resource.0.id
            );
            return Err(YamlError { code: "DUPLICATE", line: resource.0.line, column: resource.1, message });
        }
        resources.push(resource.0);
    }
    // In an order in which each thing finds what it names.
    resources.sort_by_key(|resource| order(resource.id.kind));
    Ok(resources)
}

const fn order(kind: Kind) -> u8 {
    match kind {
        Kind::Site => 0,
        Kind::Mover => 1,
        Kind::Repository => 2,
        Kind::Host => 3,
        Kind::Job => 4,
        Kind::Plan => 5,
        Kind::Broker | Kind::Session | Kind::Replica | Kind::Agent | Kind::Api => 6,
    }
}

struct Document {
    name: Spanned<String>,
    spec: Spec,
}

enum Spec {
    Site(SiteYaml),
    Mover(MoverYaml),
    Host(HostYaml),
    Repository(RepositoryYaml),
    Job(Box<JobYaml>),
    Plan(PlanYaml),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SiteYaml {
    #[serde(default)]
    peers: Vec<SiteName>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MoverYaml {
    roles: Vec<Role>,
    #[serde(default = "default_slots")]
    slots: u32,
}

const fn default_slots() -> u32 {
    4
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HostYaml {
    mover: Name,
    folder: String,
    #[serde(default)]
    discovery_every: Option<Span>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JobYaml {
    #[serde(default)]
    backup: Option<BackupYaml>,
    #[serde(default)]
    replication: Option<ReplicationYaml>,
    #[serde(default)]
    schedule: Option<ScheduleYaml>,
    #[serde(default)]
    retry: Option<RetryYaml>,
    #[serde(default)]
    keep: KeepYaml,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BackupYaml {
    host: Name,
    #[serde(default)]
    vms: Vec<VmName>,
    repository: Name,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplicationYaml {
    source_site: SiteName,
    source_host: Name,
    #[serde(default)]
    vms: Vec<VmName>,
    digests: Name,
    target_host: Name,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScheduleYaml {
    #[serde(default)]
    every: Option<Span>,
    #[serde(default)]
    daily: Option<TimeOfDay>,
    #[serde(default = "utc")]
    zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetryYaml {
    attempts: u32,
    wait: Span,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlanYaml {
    steps: Vec<StepYaml>,
    /// The field's default: 10 at once.
    #[serde(default = "default_concurrency")]
    concurrency: u32,
}

const fn default_concurrency() -> u32 {
    10
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StepYaml {
    replica: Name,
    #[serde(default)]
    delay: Option<Span>,
}

/// A span of time as people write it: `90s`, `15m`, `4h`.
pub(crate) struct Span(pub(crate) Millis);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom(format!("{text:?} is not a span of time: write it like 90s, 15m or 4h"));
        let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
        u64::try_from(span.as_millis()).map(|millis| Span(Millis(millis))).map_err(|_| wrong())
    }
}

/// Minutes after midnight, written `22:00`.
struct TimeOfDay(u16);

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text
            .split_once(':')
            .and_then(|(hour, minute)| Some((hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?)));
        match parts {
            Some((hour, minute)) if hour < 24 && minute < 60 => Ok(TimeOfDay(hour * 60 + minute)),
            Some(_) | None => {
                Err(D::Error::custom(format!("{text:?} is not a time of day: write it in quotes, like \"22:00\"")))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a document with apiVersion, kind, metadata and spec, in this order")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let (mut version, mut kind, mut metadata, mut spec) =
                    (None::<String>, None::<String>, None::<Metadata>, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "apiVersion" => version = Some(map.next_value()?),
                        "kind" => kind = Some(map.next_value()?),
                        "metadata" => metadata = Some(map.next_value()?),
                        "spec" => spec = Some(read_spec(kind.as_deref(), &mut map)?),
                        other => {
                            return Err(A::Error::unknown_field(other, &["apiVersion", "kind", "metadata", "spec"]));
                        }
                    }
                }
                match version.as_deref() {
                    Some(API_VERSION) => {}
                    Some(other) => {
                        return Err(A::Error::custom(format!(
                            "apiVersion {other:?} is not known here: write {API_VERSION}"
                        )));
                    }
                    None => return Err(A::Error::missing_field("apiVersion")),
                }
                Ok(Document {
                    name: metadata.ok_or_else(|| A::Error::missing_field("metadata"))?.name,
                    spec: spec.ok_or_else(|| A::Error::missing_field("spec"))?,
                })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn read_spec<'de, A: MapAccess<'de>>(kind: Option<&str>, map: &mut A) -> Result<Spec, A::Error> {
    Ok(match kind {
        Some("Site") => Spec::Site(map.next_value()?),
        Some("Mover") => Spec::Mover(map.next_value()?),
        Some("Host") => Spec::Host(map.next_value()?),
        Some("Repository") => Spec::Repository(map.next_value()?),
        Some("Job") => Spec::Job(map.next_value()?),
        Some("FailoverPlan") => Spec::Plan(map.next_value()?),
        Some(other) => {
            return Err(A::Error::unknown_variant(
                other,
                &["Site", "Mover", "Host", "Repository", "Job", "FailoverPlan"],
            ));
        }
        None => return Err(A::Error::custom("write kind before spec")),
    })
}

impl Document {
    /// The resource, and the column of its name.
    fn resource(self) -> Result<(Resource, u64), YamlError> {
        let (line, column) = (self.name.referenced.line(), self.name.referenced.column());
        let at = |code, message: String| YamlError { code, line, column, message };
        let name: Name =
            self.name.value.parse().map_err(|error: farshore_schemas::ids::BadId| at("NAME", error.to_string()))?;
        let (kind, message) = match self.spec {
            Spec::Site(yaml) => (Kind::Site, Message::Site(site::Command::Define(SiteSpec { peers: yaml.peers }))),
            Spec::Mover(yaml) => {
                let spec = MoverSpec { roles: yaml.roles, slots: yaml.slots };
                (Kind::Mover, Message::Mover(mover::Command::Define(spec)))
            }
            Spec::Host(yaml) => (Kind::Host, Message::Host(host::Command::Define(yaml.spec()))),
            Spec::Repository(yaml) => (Kind::Repository, Message::Repository(repository::Command::Define(yaml.spec()))),
            Spec::Job(yaml) => {
                (Kind::Job, Message::Job(job::Command::Define(yaml.spec().map_err(|why| at("JOB", why))?)))
            }
            Spec::Plan(yaml) => (Kind::Plan, Message::Plan(plan::Command::Define(yaml.spec()))),
        };
        // A site's document bears the site's name; its actor is always site/site.
        let site = (kind == Kind::Site).then(|| name.to_string());
        let name = if kind == Kind::Site { Name::parse("site").expect("a legal name") } else { name };
        Ok((Resource { id: EntityId { kind, name }, message, line, site }, column))
    }
}

impl HostYaml {
    fn spec(self) -> HostSpec {
        /// The field's default: hosts are listed anew every 4 h (field.md 1.9).
        const DISCOVERY_EVERY: Millis = Millis::from_mins(4 * 60);
        HostSpec {
            mover: self.mover,
            driver: Driver::Folder { path: self.folder },
            discovery_every: self.discovery_every.map_or(DISCOVERY_EVERY, |span| span.0),
        }
    }
}

impl JobYaml {
    fn spec(self) -> Result<JobSpec, String> {
        let work = match (self.backup, self.replication) {
            (Some(b), None) => Work::Backup { host: b.host, vms: b.vms, repository: b.repository },
            (None, Some(r)) => Work::Replication {
                source_site: r.source_site,
                source_host: r.source_host,
                vms: r.vms,
                digests: r.digests,
                target_host: r.target_host,
            },
            (Some(_), Some(_)) => return Err("a job is either backup or replication, not both: split it".to_owned()),
            (None, None) => return Err("say what the job does: add backup or replication to its spec".to_owned()),
        };
        let schedule = match self.schedule {
            None => Schedule::Manual,
            Some(ScheduleYaml { every: Some(every), daily: None, zone }) => Schedule::Periodic { every: every.0, zone },
            Some(ScheduleYaml { every: None, daily: Some(at), zone }) => Schedule::Daily { minute: at.0, zone },
            Some(_) => return Err("a schedule has either every or daily".to_owned()),
        };
        // The field's defaults: 3 attempts, 10 minutes apart (field.md 1.3).
        let retry = self.retry.map_or(Retry { attempts: 3, wait: Millis::from_mins(10) }, |retry| Retry {
            attempts: retry.attempts,
            wait: retry.wait.0,
        });
        Ok(JobSpec { work, schedule, retry, keep: self.keep.0 })
    }
}

impl PlanYaml {
    fn spec(self) -> PlanSpec {
        let step = |step: StepYaml| Step { replica: step.replica, delay: step.delay.map_or(Millis(0), |span| span.0) };
        PlanSpec { steps: self.steps.into_iter().map(step).collect(), concurrency: self.concurrency }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "apiVersion: farshore/v1\nkind: Host\nmetadata:\n  name: a\nspec:\n  mover: m\n  folder: /srv\n";

    fn fails(text: &str) -> YamlError {
        parse(text).expect_err("it is wrong")
    }

    #[test]
    fn a_host_is_a_define_command_with_the_fields_defaults() {
        let resources = parse(HOST).expect("it is right");
        let Message::Host(host::Command::Define(spec)) = &resources[0].message else { panic!("not a host") };
        assert_eq!(spec.discovery_every, Millis::from_mins(240));
        assert_eq!(resources[0].id.to_string(), "host/a");
    }

    #[test]
    fn an_unknown_field_is_named_with_line_and_column() {
        let error = fails(&HOST.replace("folder:", "foldr:"));
        assert_eq!((error.code, error.line), ("SYNTAX", 7));
        assert!(error.message.contains("foldr"), "{}", error.message);
    }

    #[test]
    fn a_wrong_type_is_named_with_line_and_column() {
        let text =
            "apiVersion: farshore/v1\nkind: Mover\nmetadata:\n  name: m\nspec:\n  roles: [source]\n  slots: many\n";
        let error = fails(text);
        assert_eq!((error.code, error.line), ("SYNTAX", 7), "{error}");
    }

    #[test]
    fn a_name_defined_twice_is_named_with_both_lines() {
        let error = fails(&format!("{HOST}---\n{HOST}"));
        assert_eq!((error.code, error.line), ("DUPLICATE", 12), "{error}");
        assert!(error.message.contains("first in line 4"), "{}", error.message);
    }

    #[test]
    fn a_name_that_is_no_name_is_refused() {
        let error = fails(&HOST.replace("name: a", "name: A b"));
        assert_eq!((error.code, error.line, error.column), ("NAME", 4, 9), "{error}");
    }

    #[test]
    fn spans_and_times_say_how_to_write_them() {
        let job = "apiVersion: farshore/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  backup: {host: h, repository: r}\n  schedule: {daily: \"25:00\"}\n";
        assert!(fails(job).message.contains("22:00"));
        assert!(fails(&job.replace("daily: \"25:00\"", "every: soon")).message.contains("15m"));
        assert!(parse(&job.replace("25:00", "22:15")).is_ok());
    }

    #[test]
    fn another_version_or_kind_is_refused() {
        assert!(fails(&HOST.replace("farshore/v1", "farshore/v9")).message.contains("farshore/v1"));
        assert!(fails(&HOST.replace("kind: Host", "kind: Hots")).message.contains("Hots"));
    }
}
