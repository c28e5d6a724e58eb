//! `tci token`: who may use `tci serve`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::Global;
use crate::{
    api::{Claims, Secret, TokenRecord, Tokens, sign},
    exit::Exit,
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it.
    Create(CreateArgs),
    /// List the tokens that were made.
    Ls(LsArgs),
    /// Take tokens back.
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  export FIRECRACKER_AUTH_TOKEN=$(tci token create alice --days 7)")]
struct CreateArgs {
    /// The user's id: VMs and quotas belong to it.
    user: String,
    /// The user's name, for people [default: the id].
    #[arg(long)]
    name: Option<String>,
    /// How many days it is good for.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "Ends with 3 when the file of a token is damaged; the others are listed.\n\n\
                        Example:\n  tci token ls")]
struct LsArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci token revoke --user alice")]
struct RevokeArgs {
    /// Ids of tokens, or their starts.
    #[arg(required_unless_present = "user")]
    tokens: Vec<String>,
    /// All tokens of this user, who is then unknown.
    #[arg(long)]
    user: Option<String>,
}

pub(crate) fn main(args: &TokenArgs, global: &Global) -> Result<Exit, Failure> {
    let data = global.paths()?.data().to_owned();
    match &args.command {
        TokenCommand::Create(args) => create(args, &Tokens::open(&data)?, &Secret::load(&data)?),
        TokenCommand::Ls(args) => ls(args, &Tokens::at(&data)),
        TokenCommand::Revoke(args) => revoke(args, &Tokens::at(&data)),
    }
}

fn create(args: &CreateArgs, tokens: &Tokens, secret: &Secret) -> Result<Exit, Failure> {
    if args.user.is_empty() {
        return Err(Failure::usage("a user's id is expected"));
    }
    let now = now();
    let record = TokenRecord {
        id: Uuid::now_v7().to_string(),
        user_id: args.user.clone(),
        username: args.name.clone().unwrap_or_else(|| args.user.clone()),
        created_at: now,
        expires_at: now + i64::from(args.days) * 24 * 3600,
        revoked: false,
    };
    let claims = Claims {
        user_id: record.user_id.clone(),
        username: record.username.clone(),
        github_id: None,
        exp: record.expires_at.unsigned_abs(),
        iat: now.unsigned_abs(),
        jti: Some(record.id.clone()),
    };
    let token = sign(&claims, secret)?;
    tokens.save(&record)?;
    output::data(&format!("{token}\n"))?;
    Ok(Exit::Success)
}

fn ls(args: &LsArgs, tokens: &Tokens) -> Result<Exit, Failure> {
    let listing = tokens.list()?;
    if args.json {
        output::json(&listing.records)?;
    } else {
        let now = now();
        let rows: Vec<Vec<String>> = listing.records.iter().map(|record| row(record, now)).collect();
        output::data(&output::table(&["ID", "USER", "NAME", "CREATED", "EXPIRES", "STATE"], &rows))?;
    }
    Ok(tell(listing.damaged.iter().map(|damaged| &damaged.failure)))
}

/// Reports each; what the command ends with when everything else went well.
fn tell<'a>(failures: impl Iterator<Item = &'a Failure>) -> Exit {
    failures.fold(Exit::Success, |exit, failure| {
        failure.report();
        exit.and(failure.exit)
    })
}

fn row(record: &TokenRecord, now: i64) -> Vec<String> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let time = |seconds| match seconds {
        0 => "-".to_owned(),
        _ => jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string(),
    };
    let state = match (record.revoked, record.expires_at <= now) {
        (true, _) => "revoked",
        (false, true) => "expired",
        (false, false) => "good",
    };
    vec![
        record.id.clone(),
        or_dash(&record.user_id),
        or_dash(&record.username),
        time(record.created_at),
        time(record.expires_at),
        state.to_owned(),
    ]
}

fn revoke(args: &RevokeArgs, tokens: &Tokens) -> Result<Exit, Failure> {
    let listing = tokens.list()?;
    let replaced = listing.damaged.iter().map(|damaged| TokenRecord::replacing_damaged(&damaged.id));
    let all: Vec<TokenRecord> = listing.records.iter().cloned().chain(replaced).collect();
    let mut wanted =
        args.tokens.iter().map(|start| find(start, &all)).collect::<Result<Vec<TokenRecord>, _>>()?;
    let mut exit = Exit::Success;
    if let Some(user) = &args.user {
        // Whose those are is not known: they may be this user's, and nobody may think that all are taken back.
        let named = |id: &str| wanted.iter().any(|record| record.id == id);
        let left = listing.damaged.iter().filter(|damaged| !named(&damaged.id));
        exit = tell(left.map(|damaged| &damaged.failure));
        let before = wanted.len();
        wanted.extend(listing.records.into_iter().filter(|record| record.user_id == *user));
        if wanted.len() == before {
            return Err(Failure::usage(format!("user `{user}` has no token")));
        }
    }
    for mut record in wanted {
        record.revoked = true;
        tokens.save(&record)?;
        output::data(&format!("{}\n", record.id))?;
    }
    Ok(exit)
}

/// The one token whose id starts so.
fn find(start: &str, all: &[TokenRecord]) -> Result<TokenRecord, Failure> {
    let mut matching = all.iter().filter(|record| !start.is_empty() && record.id.starts_with(start));
    match (matching.next(), matching.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("`{start}` is the start of several tokens: give more digits")))
        }
        (None, _) => {
            Err(Failure::usage(format!("there is no token `{start}`")).hint("`tci token ls` shows them"))
        }
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
