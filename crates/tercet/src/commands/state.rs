//! `tercet state`: shares the operator state through the machines.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use serde_json::json;
use tercet_fleet::fleet::Unreachable;
use tercet_fleet::replicas::{holdings, push as push_to};
use tercet_fleet::state::encryption::{Key, Recipients, identity_kept_in};
use tercet_fleet::state::pull::{Pulled, Wanted, choose};
use tercet_fleet::state::push::{Pushed, is_due};
use tercet_fleet::state::{Header, Local, pull as pulling};
use tercet_fleet::{Fleet, Secret};

use crate::cli::{self, StateVerb};
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Spinner, table};
use crate::project::Project;
use crate::terminal;

pub(crate) fn run(arguments: cli::State) -> Outcome {
    match arguments.verb.unwrap_or(StateVerb::Show(arguments.show)) {
        StateVerb::Show(arguments) => show(&arguments),
        StateVerb::Push(arguments) => push(&arguments),
        StateVerb::Pull(arguments) => {
            let machines = Machines::without_certificates(&arguments.machines)?;
            let cli::StatePull { decryption, authority, from, replace, .. } = arguments;
            pull(&machines, &Pull { decryption, authority, from, replace })
        }
        StateVerb::Identity(arguments) => identity(&arguments),
    }
}

/// The recipients in tercet.toml; `None` if there are none.
pub(super) fn keys(project: &Project) -> Result<Option<Recipients>, Failure> {
    Recipients::keys(&project.topology.state().recipients)
        .map_err(|error| Failure::input_message(format!("{error:#}")))
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn push(arguments: &cli::StatePush) -> Outcome {
    let machines = Machines::without_certificates(&arguments.machines)?;
    let recipients = match (keys(machines.project())?, &arguments.passphrase_file) {
        (Some(_), Some(_)) => {
            return Err(Failure::input_message(
                "tercet.toml names [state] recipients, and age encrypts either to them or with a passphrase\nhint: use one of the two",
            ));
        }
        (Some(keys), None) => keys,
        (None, Some(file)) => passphrase_recipient(terminal::passphrase_in(file)?)?,
        (None, None) => passphrase_recipient(ask_twice()?)?,
    };
    let pushed = push_now(&machines, &recipients, arguments.replace)?;
    if pushed.machines.is_empty() {
        println!("every machine has generation {} of the operator state already", pushed.generation);
    }
    Ok(())
}

/// Pushes to the machines that can be reached now, and prints the result. It opens its own connections, because some machines
/// of an apply may have left the project.
fn push_now(machines: &Machines, recipients: &Recipients, replace: bool) -> anyhow::Result<Pushed> {
    let spinner = Spinner::new("pushing the operator state");
    let (fleet, missing) = machines.open_reachable()?;
    require_reachable(&fleet, &missing)?;
    let pushed = push_to(&fleet, recipients, replace, &|progress| spinner.print(&progress));
    spinner.finish();
    let pushed = pushed?;
    print_pushed(&pushed);
    print_missing(&pushed, &missing);
    if !pushed.machines.is_empty() && machines.project().topology.state().authority.is_none() {
        print_authority(&pushed.authority);
    }
    Ok(pushed)
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn print_pushed(pushed: &Pushed) {
    if !pushed.machines.is_empty() {
        let machines = pushed.machines.join(", ");
        println!("generation {} of the operator state is now on {machines}", pushed.generation);
    }
}

#[expect(clippy::print_stderr, reason = "the command is the one place that prints")]
fn print_missing(pushed: &Pushed, missing: &[Unreachable]) {
    if !pushed.left_out.is_empty() {
        eprintln!("not pushed to machines of another project: {}", pushed.left_out.join(", "));
    }
    for (name, error) in missing {
        eprintln!("not pushed to {name}, which could not be reached: {error:#}");
    }
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn print_authority(authority: &str) {
    println!(
        "put its authority into tercet.toml, so that pull accepts no other state:\n\n[state]\nauthority = {authority:?}"
    );
}

/// Prints the new authority if tercet.toml names another one; returns whether it does.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn names_another_authority(project: &Project) -> anyhow::Result<bool> {
    let local = Local::of(&project.folder)?.context("this folder has no operator state")?;
    let authority = local.authority()?;
    let another = project.topology.state().authority.as_ref().is_some_and(|named| *named != authority);
    if another {
        println!(
            "put the new authority into tercet.toml and run `tercet state push`, so that other operators can pull:\n\n[state]\nauthority = \
             {authority:?}\n"
        );
    }
    Ok(another)
}

/// Fails if no machine could be reached.
fn require_reachable(fleet: &Fleet<'_>, missing: &[Unreachable]) -> anyhow::Result<()> {
    match fleet.names().next() {
        Some(_) => Ok(()),
        None => Err(tercet_fleet::all_in_one(missing.iter().map(|(_, error)| error))),
    }
}

fn passphrase_recipient(passphrase: String) -> Result<Recipients, Failure> {
    Recipients::passphrase(Secret::new(passphrase)).map_err(|error| Failure::input_message(error.to_string()))
}

fn ask_twice() -> Result<String, Failure> {
    let passphrase = terminal::ask_hidden("a passphrase for the operator state")?;
    if terminal::ask_hidden("the same again")? != passphrase {
        return Err(Failure::input_message("the two passphrases differ"));
    }
    Ok(passphrase)
}

/// The last step of an apply: pushes the operator state if it has recipients.
pub(super) fn push_after_apply(
    machines: &Machines,
    recipients: Option<&Recipients>,
    take_over: bool,
) -> anyhow::Result<()> {
    let Some(recipients) = recipients else { return Ok(()) };
    // On machines that were taken over, the stored state has obsolete secrets.
    push_now(machines, recipients, take_over).map(drop).context(
        "the apply succeeded, but the operator state was not pushed: its latest changes are only in this folder",
    )
}

/// Pushes the operator state if tercet.toml names recipients.
pub(super) fn push_if_shared(machines: &Machines, recipients: Option<&Recipients>) -> anyhow::Result<()> {
    let Some(recipients) = recipients else { return Ok(()) };
    push_now(machines, recipients, false).map(drop)
}

/// Pushes after a failed apply; a failure to push is printed, and the apply's error is returned by the caller.
#[expect(clippy::print_stderr, reason = "the command is the one place that prints")]
pub(super) fn push_after_failure(machines: &Machines, recipients: Option<&Recipients>) {
    let Some(recipients) = recipients.filter(|_| !machines.interrupted()) else { return };
    let is_due = Local::of(&machines.project().folder)
        .is_ok_and(|local| local.is_some_and(|local| is_due(&local, recipients)));
    if is_due && let Err(error) = push_now(machines, recipients, false) {
        eprintln!("the operator state was not pushed either: {error:#}\nhint: `tercet state push`");
    }
}

/// A note if the operator state is not on the machines, for projects without recipients.
pub(super) fn unshared(project: &Project) -> anyhow::Result<Option<String>> {
    let Some(local) = Local::of(&project.folder)?.filter(Local::has_changed) else { return Ok(None) };
    Ok(Some(match &local.record {
        None => "the authority, passwords and keys of these machines are only in this folder's .tercet\n\
                 hint: name [state] recipients in tercet.toml, and apply stores them on the machines, encrypted; or run `tercet state push`"
            .to_owned(),
        Some(record) => format!(
            "the operator state has changed since generation {} was pushed\nhint: `tercet state push`",
            record.held.header.generation
        ),
    }))
}

/// The options of a pull.
#[derive(Debug, Default)]
pub(super) struct Pull {
    decryption: cli::Decryption,
    authority: Option<String>,
    from: Option<String>,
    replace: bool,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command is the one place that prints")]
pub(super) fn pull(machines: &Machines, options: &Pull) -> Outcome {
    let Project { folder, topology } = machines.project();
    if let Some(from) =
        options.from.as_ref().filter(|from| topology.machines().iter().all(|it| it.name != **from))
    {
        return Err(Failure::input_message(format!("tercet.toml names no machine {from}")));
    }
    let spinner = Spinner::new("looking for the operator state");
    let (fleet, missing) = machines.open_reachable()?;
    require_reachable(&fleet, &missing)?;
    let (held, unread) = holdings(&fleet);
    spinner.finish();
    for (name, error) in missing.iter().chain(&unread) {
        eprintln!("{name} could not be read: {error:#}");
    }
    let local = Local::of(folder)?;
    let own = local.as_ref().map(Local::authority).transpose()?;
    let known = options.authority.as_ref().or(topology.state().authority.as_ref()).or(own.as_ref());
    let wanted =
        Wanted { name: topology.name(), authority: known.map(String::as_str), from: options.from.as_deref() };
    let found = choose(local.as_ref(), &held, wanted)?;
    for note in &found.notes {
        eprintln!("{note}");
    }
    let header = found.sealed.header();
    println!("found on {}: {header}, encrypted to {}", found.machines.join(", "), header.recipients());
    pulling::check(local.as_ref(), &found.sealed)?;
    let authority = found.sealed.authority();
    if known.is_none() && !is_trusted(&authority)? {
        return Err(anyhow!("nothing was changed").into());
    }
    let key = key(&options.decryption, header)?;
    let mut ask = |what: &str| terminal::ask_hidden(what).map(Secret::new).map_err(Failure::into_error);
    match pulling::pull(folder, &found.sealed, &key, options.replace, &mut ask)? {
        Pulled::AlreadyHere => println!("this folder has generation {} already", header.generation),
        Pulled::Placed { kept } => {
            println!("this folder has generation {} of the operator state now", header.generation);
            if let Some(kept) = kept {
                println!("its previous state is in .tercet/{kept}; delete it if you do not need it");
            }
        }
    }
    if topology.state().authority.is_none() {
        print_authority(&authority);
    }
    Ok(())
}

/// Asks whether the authority is trusted.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn is_trusted(authority: &str) -> Result<bool, Failure> {
    println!(
        "it is signed by authority {authority}\ncompare it with the authority that `tercet state` shows the operator who pushed it: an attacker who controls \
         a machine can store another state there"
    );
    terminal::confirm("trust this authority").map_err(|_| {
        Failure::input_message(format!(
            "no trusted authority is named\nhint: put [state] authority into tercet.toml, or pass --authority {authority} \
             if the other operator's `tercet state` shows it"
        ))
    })
}

/// The key that decrypts a state with this header.
fn key(decryption: &cli::Decryption, header: &Header) -> Result<Key, Failure> {
    if let Some(file) = &decryption.passphrase_file {
        return Ok(Key::Passphrase(Secret::new(terminal::passphrase_in(file)?)));
    }
    if let Some(file) = &decryption.identity {
        return Ok(Key::Files(vec![file.clone()]));
    }
    if header.recipients.is_empty() {
        return Ok(Key::Passphrase(Secret::new(terminal::ask_hidden(
            "the passphrase of the operator state",
        )?)));
    }
    let home = home()?;
    let defaults = [default_identity()?, home.join(".ssh/id_ed25519"), home.join(".ssh/id_rsa")];
    let present: Vec<PathBuf> = defaults.into_iter().filter(|path| path.exists()).collect();
    if present.is_empty() {
        return Err(Failure::input_message(format!(
            "there is no key to decrypt the state with: neither {} nor an ssh key\nhint: name its file with --identity; or create one with \
             `tercet state identity`, and ask an operator who has the state to add it to [state] recipients and push",
            default_identity()?.display()
        )));
    }
    Ok(Key::Files(present))
}

fn home() -> anyhow::Result<PathBuf> {
    std::env::home_dir().context("the home folder is unknown\nhint: set HOME, or name the file")
}

fn default_identity() -> anyhow::Result<PathBuf> {
    let configuration = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|it| it.is_absolute());
    Ok(configuration
        .map_or_else(|| Ok::<_, anyhow::Error>(home()?.join(".config")), Ok)?
        .join("tercet/identity"))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command is the one place that prints")]
fn identity(arguments: &cli::StateIdentity) -> Outcome {
    let path = arguments.file.clone().map_or_else(default_identity, Ok)?;
    let is_new = !path.exists();
    let public = identity_kept_in(&path)?;
    if is_new {
        eprintln!("created {}: keep a backup, and keep it private", path.display());
    }
    println!("{public}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn show(arguments: &cli::StateShow) -> Outcome {
    let machines = Machines::without_certificates(&arguments.machines)?;
    let spinner = Spinner::new("looking at the machines");
    let (fleet, missing) = machines.open_reachable()?;
    let (held, unread) = holdings(&fleet);
    spinner.finish();
    let local = Local::of(&machines.project().folder)?;
    let authority = local.as_ref().map(Local::authority).transpose()?;
    let errors: Vec<&Unreachable> = missing.iter().chain(&unread).collect();
    if arguments.json {
        let kept = held.iter().map(|it| match &it.sealed {
            Ok(Some(sealed)) => {
                json!({ "machine": it.machine, "state": sealed.header(), "authority": sealed.authority() })
            }
            Ok(None) => json!({ "machine": it.machine, "state": null }),
            Err(why) => json!({ "machine": it.machine, "error": why }),
        });
        let absent =
            errors.iter().map(|(name, error)| json!({ "machine": name, "error": format!("{error:#}") }));
        let here = local.as_ref().map(|local| {
            json!({
                "state": local.record.as_ref().map(|record| &record.held.header),
                "changed": local.has_changed(),
                "authority": authority,
            })
        });
        println!("{:#}", json!({ "folder": here, "machines": kept.chain(absent).collect::<Vec<_>>() }));
    } else {
        print!("{}", describe(local.as_ref(), authority.as_deref(), &held, &errors));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(tercet_fleet::all_in_one(errors.iter().map(|(_, error)| error)).into())
}

fn describe(
    local: Option<&Local>,
    authority: Option<&str>,
    held: &[tercet_fleet::state::Holding],
    errors: &[&Unreachable],
) -> String {
    let columns = ["where", "generation", "pushed by", "at", "encrypted to", ""];
    let row = |at: &str, header: &Header, note: &str| {
        let Header { generation, by, at: time, .. } = header;
        [at, &generation.to_string(), by, time, &header.recipients(), note].map(str::to_owned).to_vec()
    };
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    match local.map(|local| (local, &local.record)) {
        None => rows.push(vec!["this folder".to_owned(), "none".to_owned()]),
        Some((_, None)) => rows.push(vec!["this folder".to_owned(), "never pushed or pulled".to_owned()]),
        Some((local, Some(record))) => {
            let note = if local.has_changed() { "changed since: `tercet state push`" } else { "" };
            rows.push(row("this folder", &record.held.header, note));
        }
    }
    for holding in held {
        rows.push(match &holding.sealed {
            Ok(None) => vec![holding.machine.clone(), "none".to_owned()],
            Err(why) => vec![holding.machine.clone(), why.clone()],
            Ok(Some(sealed)) => {
                let other = authority.is_some_and(|authority| authority != sealed.authority());
                let note = if other { format!("signed by {}", sealed.authority()) } else { String::new() };
                row(&holding.machine, sealed.header(), &note)
            }
        });
    }
    rows.extend(errors.iter().map(|(name, _)| vec![name.clone(), "cannot be read".to_owned()]));
    let mut text = table(&rows);
    if let Some(authority) = authority {
        text += &format!("authority {authority}\n");
    }
    text
}
