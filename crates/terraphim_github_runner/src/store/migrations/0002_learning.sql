-- What is learned from: only added to, until `compact` folds the oldest into the baseline. `body` is the whole event as
-- JSON; the other columns are what queries need.
CREATE TABLE learning_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    uid        TEXT   NOT NULL UNIQUE,
    repository TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    outcome    TEXT   NOT NULL,
    at_ms      BIGINT NOT NULL,
    body       TEXT   NOT NULL
);
CREATE INDEX learning_events_by_repository ON learning_events (repository, id);

-- The counters: a function of the baseline and the events after it. The repository with the empty name is what all
-- repositories share.
CREATE TABLE learning_facts (
    repository TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (repository, kind, key)
);

-- The counters as they were after the event `baseline` of `learning_state`.
CREATE TABLE learning_baseline (
    repository TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (repository, kind, key)
);

-- `applied`: the last event in the counters; `baseline`: the last one in the baseline; `version`: of the counters.
CREATE TABLE learning_state (
    name  TEXT   PRIMARY KEY,
    value BIGINT NOT NULL
);
