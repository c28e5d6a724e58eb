CREATE TABLE runs (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_name    TEXT    NOT NULL,
    workflow_path    TEXT    NOT NULL,
    repository       TEXT    NOT NULL,
    event            TEXT    NOT NULL,
    git_ref          TEXT    NOT NULL,
    sha              TEXT    NOT NULL,
    run_number       BIGINT  NOT NULL,
    attempt          BIGINT  NOT NULL,
    rerun_of         BIGINT,
    conclusion       TEXT,
    error            TEXT,
    owner_pid        BIGINT  NOT NULL,
    owner_start_time BIGINT  NOT NULL,
    owner_boot_id    TEXT    NOT NULL,
    request          TEXT    NOT NULL,
    created_at_ms    BIGINT  NOT NULL,
    finished_at_ms   BIGINT
);
CREATE INDEX runs_by_workflow ON runs (repository, workflow_path, run_number);
CREATE INDEX runs_by_conclusion ON runs (conclusion);

CREATE TABLE jobs (
    run_id         BIGINT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number         BIGINT NOT NULL,
    key            TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    conclusion     TEXT,
    vm_id          TEXT,
    outcome        TEXT,
    outputs        TEXT,
    started_at_ms  BIGINT NOT NULL,
    finished_at_ms BIGINT,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE steps (
    run_id         BIGINT NOT NULL,
    job            BIGINT NOT NULL,
    number         BIGINT NOT NULL,
    name           TEXT   NOT NULL,
    outcome        TEXT,
    conclusion     TEXT,
    exit_code      BIGINT,
    summary        TEXT,
    log_start      BIGINT NOT NULL,
    log_end        BIGINT,
    started_at_ms  BIGINT NOT NULL,
    finished_at_ms BIGINT,
    PRIMARY KEY (run_id, job, number),
    FOREIGN KEY (run_id, job) REFERENCES jobs (run_id, number) ON DELETE CASCADE
);

CREATE TABLE annotations (
    run_id     BIGINT NOT NULL,
    job        BIGINT NOT NULL,
    number     BIGINT NOT NULL,
    step       BIGINT,
    level      TEXT   NOT NULL,
    title      TEXT,
    message    TEXT   NOT NULL,
    file       TEXT,
    line       BIGINT,
    end_line   BIGINT,
    col        BIGINT,
    end_column BIGINT,
    PRIMARY KEY (run_id, job, number),
    FOREIGN KEY (run_id, job) REFERENCES jobs (run_id, number) ON DELETE CASCADE
);
