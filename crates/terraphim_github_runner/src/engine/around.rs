//! The commands before and after the jobs of a plan.

use chrono::Utc;
use terraphim_actions::expr::Scope;
use tokio_util::sync::CancellationToken;

use super::event::{Conclusion, Phase, RunEvent};
use super::masks::Masks;
use super::output::{Place as OutputPlace, StepOutput};
use super::place::Place;
use super::shared::Shared;
use crate::error::{GitHubRunnerError, Result};
use crate::workflow::{ProcessSpec, StopReason};

/// Runs the commands of a phase in order: setup until one fails, cleanup all of them. Says whether all passed.
pub(super) async fn run_commands(
    shared: &Shared,
    place: &Place,
    phase: Phase,
    cancel: &CancellationToken,
) -> Result<bool> {
    let commands = match phase {
        Phase::Setup => &shared.plan.setup,
        Phase::Cleanup => &shared.plan.cleanup,
    };
    let env = env(shared)?;
    let mut all_passed = true;
    for (index, command) in commands.iter().enumerate() {
        let number = index + 1;
        let text = shared.masker.mask(&command.text);
        let of = commands.len();
        shared.observe(&RunEvent::CommandStarted { phase, command: text, number, of, at: Utc::now() }).await;
        let directory = command.working_dir.clone().unwrap_or_else(|| shared.workspace());
        let mut spec = ProcessSpec::shell(&command.text, directory, command.timeout);
        spec.user.clone_from(&shared.inputs.layout.user);
        spec.env.clone_from(&env);
        spec.stop = shared.inputs.timing.stop;
        let at = OutputPlace { job: None, step: number, workspace: shared.workspace() };
        let mut output = StepOutput::new(at, &*shared.observer, Masks::new(shared.masker.clone()), None);
        let outcome = shared.executor.run_process(place.session(), &spec, &mut output, cancel).await?;
        output.finish().await;
        let (exit_code, duration, at) = (outcome.exit.shell_code(), outcome.duration, Utc::now());
        let ended = match outcome.stopped {
            Some(StopReason::Cancelled) => Conclusion::Cancelled,
            _ if outcome.is_success() => Conclusion::Success,
            _ => Conclusion::Failure,
        };
        shared
            .observe(&RunEvent::CommandFinished { phase, number, outcome: ended, exit_code, duration, at })
            .await;
        if !outcome.is_success() {
            all_passed = false;
            if phase == Phase::Setup {
                break;
            }
        }
    }
    Ok(all_passed)
}

/// The variables of the commands: those of the run, then those of the workflow.
fn env(shared: &Shared) -> Result<Vec<(String, String)>> {
    let mut env = shared.inputs.env.clone();
    if let Some(template) = &shared.plan.env {
        let scope = Scope::of(&shared.contexts.open);
        let own = template.text_map(&scope);
        env.extend(
            own.map_err(|error| GitHubRunnerError::failed("evaluate the variables of the workflow", error))?,
        );
    }
    Ok(env.into_iter().collect())
}
