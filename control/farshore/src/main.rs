//! The farshore binary: parses the command line, runs one verb, and says with its exit code how it went.

mod cli;
mod client;
mod demo;
mod failure;
mod output;
mod site;
mod telemetry;
mod verbs;

use clap::{CommandFactory, Parser};
use cli::{Cli, Output, Verb};
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    // What a site keeps is for its owner's eyes only: logs, chunks, disks and sockets alike.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    // Before anything else: a guest starts from a bare process.
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|verb| verb == "guest") {
        return farshore_hosts::guest_main(&args[2..]);
    }
    let cli = Cli::parse();
    let (output, quiet) = (cli.output, cli.quiet);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure, output, quiet);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Errors go to standard error, as JSON when JSON was asked for.
fn complain(failure: &Failure, output: Output, _quiet: bool) {
    use std::io::Write;
    let text = match output {
        Output::Json => {
            serde_json::json!({ "code": failure.code, "message": failure.message, "advice": failure.advice })
                .to_string()
        }
        Output::Table | Output::Yaml => format!("error: {failure}"),
    };
    let _closed = writeln!(anstream::stderr().lock(), "{text}");
}

fn run(cli: Cli) -> Result<(), Failure> {
    let (output, quiet) = (cli.output, cli.quiet);
    match cli.verb {
        Verb::Up(args) => verbs::run::up(args, quiet),
        Verb::Control(args) => verbs::run::control(args, quiet),
        Verb::Agent(args) => verbs::run::agent(args, quiet),
        Verb::Apply { file, at } => verbs::drive::apply(&file, &at.data, output),
        Verb::Get { kind, name, at } => verbs::get::get(&kind, name.as_ref(), &at.data, output),
        Verb::Describe { kind, name, at } => verbs::get::describe(&kind, &name, &at.data, output),
        Verb::Delete { kind, name, at } => verbs::drive::delete(&kind, &name, &at.data),
        Verb::Status { at } => verbs::status::status(&at.data, output),
        Verb::Discover { host, no_wait, at } => verbs::hosts::discover(&host, no_wait, &at, (output, quiet)),
        Verb::Vm(verb) => verbs::hosts::vm(verb, (output, quiet)),
        Verb::Job(verb) => verbs::drive::job(verb, output, quiet),
        Verb::Session(verb) => verbs::drive::session(verb, output, quiet),
        Verb::Restore(args) => verbs::drive::restore(&args, output, quiet),
        Verb::Failover(args) => verbs::drive::failover(&args, output, quiet),
        Verb::Failback(args) => verbs::drive::failback(&args, output, quiet),
        Verb::Log(verb) => verbs::log::run(verb, output, quiet),
        Verb::Repo(verb) => verbs::repo::run(verb, output, quiet),
        Verb::Site(cli::SiteVerb::Recover(args)) => verbs::recover::run(&args, output, quiet),
        Verb::Sim(verb) => verbs::sim::run(verb, output, quiet),
        Verb::Doctor { data, nats } => verbs::doctor::run(data.as_deref(), nats.as_deref(), output),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "farshore", &mut script);
            output::say(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Verb::Demo(args) => demo::run(&args, output, quiet),
        Verb::Guest { .. } => Err(Failure::defect(&"guests are started before the command line is read")),
    }
}
