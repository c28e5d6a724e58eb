//! The engine: plan, session, execute, report, learn.
