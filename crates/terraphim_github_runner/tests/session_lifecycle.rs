//! Every VM that is allocated is given back, exactly once, whatever happens in between.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{Behaviour, Call, Provider, config, context, manager};
use terraphim_github_runner::{
    AtLimit, GitHubRunnerError, SessionManager, SessionManagerConfig, SessionPhase, SessionState, SnapshotId,
};
use tokio::sync::Barrier;
use tokio::time::{advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn linger(time: Duration, limit: usize) -> SessionManagerConfig {
    SessionManagerConfig { completed_linger: time, ..config(limit) }
}

/// Lets everything that can run, run.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_creates_at_once_never_exceed_a_limit_of_two() {
    for _ in 0..50 {
        let provider = Provider::quick();
        let sessions = manager(&provider, config(2));
        let barrier = Arc::new(Barrier::new(20));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (sessions, barrier) = (Arc::clone(&sessions), Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    sessions.create_session(&context()).await
                })
            })
            .collect();
        let mut created = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => created += 1,
                Err(error) => {
                    assert!(matches!(error, GitHubRunnerError::SessionLimit { limit: 2 }), "{error:?}")
                }
            }
        }
        assert_eq!((created, provider.allocations(), provider.most()), (2, 2, 2));
        sessions.shutdown().await.unwrap();
        provider.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_queued_creates_all_get_their_turn_two_at_a_time() {
    let provider = Provider::new(|_| Behaviour::Work(SECOND));
    let sessions = manager(&provider, SessionManagerConfig { at_limit: AtLimit::Queue, ..config(2) });
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let sessions = Arc::clone(&sessions);
            tokio::spawn(async move {
                let lease = sessions.open(&context()).await.unwrap();
                sleep(SECOND).await;
                lease.finish(true).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((provider.allocations(), provider.most()), (20, 2), "lingering VMs make room");
    sessions.shutdown().await.unwrap();
    provider.assert_clean();
}

#[tokio::test]
async fn parallel_allocations_do_not_wait_for_each_other() {
    struct Together(Barrier);
    #[async_trait::async_trait]
    impl terraphim_github_runner::VmProvider for Together {
        async fn allocate(&self, vm_type: &str) -> terraphim_github_runner::Result<(String, Duration)> {
            // Passes only when all are here.
            self.0.wait().await;
            Ok((vm_type.to_owned(), Duration::ZERO))
        }
        async fn release(&self, _: &str) -> terraphim_github_runner::Result<()> {
            Ok(())
        }
    }
    let sessions = SessionManager::with_provider(Arc::new(Together(Barrier::new(4))), config(4));
    let contexts = [context(), context(), context(), context()];
    let all = tokio::join!(
        sessions.create_session(&contexts[0]),
        sessions.create_session(&contexts[1]),
        sessions.create_session(&contexts[2]),
        sessions.create_session(&contexts[3]),
    );
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_create_gives_its_vm_back() {
    let provider = Provider::new(|_| Behaviour::Work(10 * SECOND));
    let sessions = manager(&provider, config(1));
    let create = tokio::time::timeout(SECOND, async { sessions.create_session(&context()).await });
    assert!(create.await.is_err());
    assert_eq!(sessions.active_session_count(), 1, "the VM is on its way and counts");
    sleep(30 * SECOND).await;
    assert_eq!((provider.allocations(), sessions.active_session_count()), (1, 0));
    provider.assert_clean();
    sessions.create_session(&context()).await.unwrap();
    sessions.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_allocation_that_takes_too_long_is_given_back_when_it_comes() {
    let provider = Provider::new(|call| match call {
        Call::Allocate(0) => Behaviour::Work(1000 * SECOND),
        _ => Behaviour::Work(Duration::ZERO),
    });
    let sessions = manager(&provider, config(1));
    let error = sessions.create_session(&context()).await.unwrap_err();
    assert!(matches!(error, GitHubRunnerError::AllocationTimedOut { .. }), "{error:?}");
    sleep(2000 * SECOND).await;
    assert_eq!(provider.allocations(), 1);
    provider.assert_clean();
    sessions.create_session(&context()).await.unwrap();
}

#[tokio::test]
async fn a_failing_or_panicking_provider_takes_no_place() {
    let provider = Provider::new(|call| match call {
        Call::Allocate(0) => Behaviour::Fail,
        Call::Allocate(1) => Behaviour::Panic,
        _ => Behaviour::Work(Duration::ZERO),
    });
    let sessions = manager(&provider, config(1));
    let error = sessions.create_session(&context()).await.unwrap_err();
    assert!(matches!(error, GitHubRunnerError::Allocation { .. }), "{error:?}");
    let error = sessions.create_session(&context()).await.unwrap_err();
    assert!(matches!(error, GitHubRunnerError::Panicked { .. }), "{error:?}");
    let context = context();
    sessions.create_session(&context).await.unwrap();
    sessions.release_session(&context.session_id).await.unwrap();
    provider.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_finished_session_lingers_and_then_goes() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(1));
    let lease = sessions.open(&context()).await.unwrap();
    let id = lease.session().id.clone();
    lease.finish(true).await.unwrap();
    assert_eq!(sessions.active_session_count(), 0, "it no longer counts");
    assert_eq!(sessions.get_session(&id).unwrap().state, SessionState::Completed);
    sleep(29 * SECOND).await;
    assert_eq!(provider.live(), 1);
    sleep(2 * SECOND).await;
    assert!(sessions.get_session(&id).is_none());
    provider.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn the_longest_lingering_session_makes_room() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(2));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let lease = sessions.open(&context()).await.unwrap();
        ids.push(lease.session().id.clone());
        lease.finish(true).await.unwrap();
        advance(SECOND).await;
    }
    sessions.create_session(&context()).await.unwrap();
    assert!(sessions.get_session(&ids[0]).is_none(), "the first is gone");
    assert!(sessions.get_session(&ids[1]).is_some(), "the second is still there");
    assert_eq!((provider.most(), provider.releases()), (2, 1));
}

#[tokio::test]
async fn without_linger_the_vm_is_gone_when_finish_returns() {
    let provider = Provider::quick();
    let sessions = manager(&provider, linger(Duration::ZERO, 1));
    let lease = sessions.open(&context()).await.unwrap();
    lease.finish(false).await.unwrap();
    provider.assert_clean();
}

#[tokio::test]
async fn a_lease_that_is_dropped_or_unwound_ends_its_session_as_failed() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(2));
    let dropped = sessions.open(&context()).await.unwrap();
    let id = dropped.session().id.clone();
    drop(dropped);
    assert_eq!(sessions.get_session(&id).unwrap().state, SessionState::Failed);

    let unwound = sessions.open(&context()).await.unwrap();
    let id = unwound.session().id.clone();
    let task = tokio::spawn(async move {
        let _lease = unwound;
        panic!("the run panics");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(sessions.get_session(&id).unwrap().state, SessionState::Failed);
    assert_eq!(sessions.active_session_count(), 0);
    sessions.shutdown().await.unwrap();
    provider.assert_clean();
}

#[tokio::test]
async fn many_releases_at_once_are_one() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(1));
    let id = sessions.create_session(&context()).await.unwrap().id;
    let all = tokio::join!(
        sessions.release_session(&id),
        sessions.release_session(&id),
        sessions.release_session(&id)
    );
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok());
    sessions.release_session(&id).await.unwrap();
    assert_eq!(provider.releases(), 1);
    provider.assert_clean();
    let unknown = sessions.release_session(&context().session_id).await;
    assert!(matches!(unknown, Err(GitHubRunnerError::SessionNotFound { .. })), "{unknown:?}");
}

#[tokio::test]
async fn a_cancelled_release_goes_on() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(1));
    let id = sessions.create_session(&context()).await.unwrap().id;
    {
        let release = sessions.release_session(&id);
        tokio::pin!(release);
        assert!(futures_util::poll!(&mut release).is_pending());
    }
    settle().await;
    provider.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_failed_release_keeps_its_place_and_is_tried_again() {
    let attempts = AtomicUsize::new(0);
    let provider = Provider::new(move |call| match call {
        Call::Release(_) => match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Behaviour::Fail,
            1 => Behaviour::Panic,
            _ => Behaviour::Work(Duration::ZERO),
        },
        Call::Allocate(_) => Behaviour::Work(Duration::ZERO),
    });
    let sessions = manager(&provider, config(1));
    let id = sessions.create_session(&context()).await.unwrap().id;
    let error = sessions.release_session(&id).await.unwrap_err();
    assert!(matches!(&error, GitHubRunnerError::Release { vm_id, .. } if vm_id == "0"), "{error:?}");
    assert_eq!(provider.live(), 1);
    sleep(59 * SECOND).await;
    assert_eq!(provider.live(), 1);
    sleep(62 * SECOND).await;
    provider.assert_clean();
    sessions.release_session(&id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_could_not_be_released_is_tried_first_when_its_place_is_needed() {
    let attempts = AtomicUsize::new(0);
    let provider = Provider::new(move |call| match call {
        Call::Release(_) if attempts.fetch_add(1, Ordering::SeqCst) == 0 => Behaviour::Fail,
        _ => Behaviour::Work(Duration::ZERO),
    });
    let sessions = manager(&provider, config(1));
    let id = sessions.create_session(&context()).await.unwrap().id;
    sessions.release_session(&id).await.unwrap_err();
    sessions.create_session(&context()).await.unwrap();
    assert_eq!(provider.most(), 1);
}

#[tokio::test(start_paused = true)]
async fn stale_sessions_go_but_never_one_that_is_held() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(3));
    let forgotten = sessions.create_session(&context()).await.unwrap().id;
    let touched = sessions.create_session(&context()).await.unwrap().id;
    let held = sessions.open(&context()).await.unwrap();
    sleep(1800 * SECOND).await;
    sessions.update_session_state(&touched, SessionState::Executing).unwrap();
    sleep(1801 * SECOND).await;
    assert!(sessions.get_session(&forgotten).is_none());
    assert!(sessions.get_session(&touched).is_some());
    sleep(10_000 * SECOND).await;
    assert!(sessions.get_session(&touched).is_none());
    assert!(sessions.get_session(&held.session().id).is_some());
}

#[tokio::test(start_paused = true)]
async fn without_auto_cleanup_stale_sessions_wait_to_be_cleaned_up() {
    let provider = Provider::quick();
    let sessions = manager(&provider, SessionManagerConfig { auto_cleanup: false, ..config(2) });
    sessions.create_session(&context()).await.unwrap();
    sleep(3601 * SECOND).await;
    sessions.create_session(&context()).await.unwrap();
    assert_eq!(provider.live(), 2);
    assert_eq!(sessions.cleanup_stale_sessions().await.unwrap(), 1);
    assert_eq!(provider.live(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_releases_everything_also_what_is_on_its_way() {
    let provider = Provider::new(|_| Behaviour::Work(SECOND));
    let sessions = manager(&provider, config(3));
    sessions.create_session(&context()).await.unwrap();
    sessions.open(&context()).await.unwrap().finish(true).await.unwrap();
    let late = {
        let sessions = Arc::clone(&sessions);
        tokio::spawn(async move { sessions.create_session(&context()).await })
    };
    settle().await;
    sessions.shutdown().await.unwrap();
    assert_eq!(provider.allocations(), 3);
    provider.assert_clean();
    assert!(matches!(late.await.unwrap(), Err(GitHubRunnerError::ShutDown)));
    let refused = sessions.create_session(&context()).await;
    assert!(matches!(refused, Err(GitHubRunnerError::ShutDown)), "{refused:?}");
    sessions.shutdown().await.unwrap();
}

/// What a manager holds when it is dropped: a session at work, one that lingers, one that is being released.
async fn dropped_with_everything() -> Arc<Provider> {
    let provider = Provider::new(|_| Behaviour::Work(Duration::from_millis(20)));
    let sessions = manager(&provider, config(3));
    sessions.create_session(&context()).await.unwrap();
    sessions.open(&context()).await.unwrap().finish(true).await.unwrap();
    let third = sessions.create_session(&context()).await.unwrap().id;
    sessions.update_session_state(&third, SessionState::Terminating).unwrap();
    drop(sessions);
    provider
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dropping_the_manager_releases_everything_before_it_returns() {
    let provider = tokio::spawn(dropped_with_everything()).await.unwrap();
    assert_eq!(provider.allocations(), 3);
    provider.assert_clean();
    dropped_with_everything().await.assert_clean();
}

#[test]
fn dropping_the_manager_on_a_runtime_of_one_thread_releases_everything() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let provider = runtime.block_on(dropped_with_everything());
    // The release that was under way is taken over when the runtime drops its task.
    drop(runtime);
    assert_eq!(provider.allocations(), 3);
    provider.assert_clean();
}

#[test]
fn dropping_the_manager_outside_of_any_runtime_releases_everything() {
    let provider = Provider::quick();
    let sessions = manager(&provider, config(2));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        sessions.create_session(&context()).await.unwrap();
    });
    drop(runtime);
    drop(sessions);
    assert_eq!(provider.allocations(), 1);
    provider.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_session_s_whole_life_is_traced() {
    use SessionState::{Active, Completed, Executing, Initializing, Terminating};
    let provider = Provider::quick();
    let sessions = manager(&provider, config(1));
    let context = context();
    let id = sessions.create_session(&context).await.unwrap().id;
    for state in [Executing, Active] {
        sessions.update_session_state(&id, state).unwrap();
    }
    sessions.add_snapshot(&id, SnapshotId::new("s1")).unwrap();
    assert_eq!(sessions.get_last_snapshot(&id), Some(SnapshotId::new("s1")));
    assert_eq!((sessions.get_stats().active_sessions, sessions.get_stats().total_snapshots), (1, 1));
    sessions.update_session_state(&id, Completed).unwrap();
    let late = sessions.update_session_state(&id, Executing);
    assert!(matches!(late, Err(GitHubRunnerError::SessionOver { .. })), "{late:?}");
    let twice = sessions.create_session(&context).await;
    assert!(matches!(twice, Err(GitHubRunnerError::SessionExists { .. })), "{twice:?}");
    sessions.release_session(&id).await.unwrap();

    let trace = sessions.session_trace(&id).unwrap();
    let states = [Initializing, Active, Executing, Active, Completed, Terminating].map(SessionPhase::In);
    assert_eq!(trace.phases(), [&states[..], &[SessionPhase::Released]].concat());
    assert_eq!(trace.vm_id.as_deref(), Some("0"));
    assert!(trace.changes.windows(2).all(|pair| pair[0].at <= pair[1].at));
}
