BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE decisions (
	seq INTEGER NOT NULL, 
	usecase TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	recorded_at BIGINT NOT NULL, 
	prev_hash TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	CONSTRAINT pk_decisions PRIMARY KEY (seq), 
	CONSTRAINT uq_decisions_hash UNIQUE (hash)
);
INSERT INTO "decisions" VALUES(1,'fraud','installation','{"reason":"first","roles":[{"contract":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","model":"dev-fraud","role":"champion","version":"1"}]}','test',1772409600000000,1795206968209013,'0000000000000000000000000000000000000000000000000000000000000000','d036ca8068ce3a7af2f25f5226e1f2b8fc11055506b265edc7f78e8acc301a6c');
INSERT INTO "decisions" VALUES(2,'fraud','appointment','{"reason":"first","roles":[{"contract":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","model":"dev-fraud","role":"challenger","version":"2"}]}','test',1772409600000000,1795206968223980,'d036ca8068ce3a7af2f25f5226e1f2b8fc11055506b265edc7f78e8acc301a6c','35393d2e08e8038018c7ad866f4707badaf1f127f7eaef90885a30598d14c940');
CREATE TABLE labels (
	label_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	usecase TEXT NOT NULL, 
	event_id TEXT NOT NULL, 
	y SMALLINT NOT NULL, 
	observed_at BIGINT NOT NULL, 
	source TEXT NOT NULL, 
	received_at BIGINT NOT NULL, 
	stored_at BIGINT NOT NULL, 
	CONSTRAINT ck_labels_y CHECK (y IN (0, 1)), 
	CONSTRAINT uq_labels_usecase_event_id_source_y_observed_at UNIQUE (usecase, event_id, source, y, observed_at)
);
INSERT INTO "labels" VALUES(1,'fraud','e00001',1,1772496000000000,'chargeback',1772496000000000,1772496000000000);
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	acquired_at BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);
CREATE TABLE operations (
	op_id TEXT NOT NULL, 
	usecase TEXT NOT NULL, 
	model TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	from_version TEXT, 
	to_version TEXT NOT NULL, 
	previous_version TEXT, 
	evidence TEXT NOT NULL, 
	contract TEXT NOT NULL, 
	state TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	note TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	CONSTRAINT pk_operations PRIMARY KEY (op_id)
);
CREATE TABLE plans (
	plan_id TEXT NOT NULL, 
	names TEXT NOT NULL, 
	stored_at BIGINT NOT NULL, 
	CONSTRAINT pk_plans PRIMARY KEY (plan_id)
);
INSERT INTO "plans" VALUES('plan-1','["amount","count"]',1);
CREATE TABLE predictions (
	row_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	usecase TEXT NOT NULL, 
	event_id TEXT NOT NULL, 
	event_time BIGINT NOT NULL, 
	received_at BIGINT NOT NULL, 
	origin TEXT NOT NULL, 
	body BLOB NOT NULL, 
	plan_id TEXT, 
	features BLOB, 
	model TEXT, 
	version TEXT, 
	alias TEXT, 
	contract TEXT, 
	raw_score DOUBLE, 
	score DOUBLE, 
	threshold DOUBLE, 
	decision SMALLINT, 
	propensity DOUBLE, 
	stored_at BIGINT NOT NULL, 
	CONSTRAINT ck_predictions_answered CHECK (origin <> 'live' OR (score IS NOT NULL AND threshold IS NOT NULL AND decision IS NOT NULL AND model IS NOT NULL AND version IS NOT NULL)), 
	CONSTRAINT ck_predictions_origin CHECK (origin IN ('live', 'history', 'event', 'late')), 
	CONSTRAINT ck_predictions_raw_score CHECK (raw_score BETWEEN 0 AND 1), 
	CONSTRAINT ck_predictions_score CHECK (score BETWEEN 0 AND 1), 
	CONSTRAINT uq_predictions_usecase_event_id UNIQUE (usecase, event_id)
);
INSERT INTO "predictions" VALUES(1,'fraud','e00001',1772409600000000,1772409600000000,'live',X'7B226964223A22653030303031222C22616D6F756E74223A312E357D','plan-1',X'0000803F00000040','dev-fraud','1','champion','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',0.25,0.2,0.5,0,NULL,1772409600000000);
INSERT INTO "predictions" VALUES(2,'fraud','e00002',1772409600000000,1772409600000000,'live',X'7B226964223A22653030303032222C22616D6F756E74223A322E357D','plan-1',X'0000803F00000040','dev-fraud','1','champion','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',0.25,0.2,0.5,0,NULL,1772409600000000);
INSERT INTO "predictions" VALUES(3,'fraud','e00003',1772496000000000,1772496000000000,'live',X'7B226964223A22653030303033222C22616D6F756E74223A332E357D','plan-1',X'0000803F00000040','dev-fraud','1','champion','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',0.25,0.2,0.5,0,NULL,1772409600000000);
INSERT INTO "predictions" VALUES(4,'fraud','e00004',1806969600000000,1806969600000000,'live',X'7B226964223A22653030303034222C22616D6F756E74223A342E357D','plan-1',X'0000803F00000040','dev-fraud','1','champion','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',0.25,0.2,0.5,0,NULL,1772409600000000);
INSERT INTO "predictions" VALUES(5,'fraud','e00009',-5,1772409600000000,'history',X'7B226964223A22653030303039222C22616D6F756E74223A392E357D',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1772409600000000);
CREATE TABLE quarantine (
	quarantine_id INTEGER NOT NULL, 
	usecase TEXT NOT NULL, 
	writer TEXT NOT NULL, 
	segment BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	records BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	payload BLOB NOT NULL, 
	stored_at BIGINT NOT NULL, 
	CONSTRAINT pk_quarantine PRIMARY KEY (quarantine_id)
);
CREATE TABLE reports (
	report_id INTEGER NOT NULL, 
	usecase TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	model TEXT, 
	challenger TEXT, 
	as_of BIGINT NOT NULL, 
	outcome TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	html TEXT, 
	run_id TEXT, 
	stored_at BIGINT NOT NULL, 
	CONSTRAINT pk_reports PRIMARY KEY (report_id)
);
INSERT INTO "reports" VALUES(1,'fraud','drift','dev-fraud/1',NULL,1772496000000000,'stable','{}','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',NULL,NULL,1772496000000000);
CREATE TABLE roles (
	role_id INTEGER NOT NULL, 
	seq BIGINT NOT NULL, 
	usecase TEXT NOT NULL, 
	model TEXT NOT NULL, 
	role TEXT NOT NULL, 
	version TEXT, 
	contract TEXT, 
	at BIGINT NOT NULL, 
	recorded_at BIGINT NOT NULL, 
	CONSTRAINT pk_roles PRIMARY KEY (role_id)
);
INSERT INTO "roles" VALUES(1,1,'fraud','dev-fraud','champion','1','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',1772409600000000,1795206968209013);
INSERT INTO "roles" VALUES(2,2,'fraud','dev-fraud','challenger','2','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',1772409600000000,1795206968223980);
CREATE TABLE runs (
	run_id TEXT NOT NULL, 
	usecase TEXT NOT NULL, 
	flow TEXT NOT NULL, 
	state TEXT NOT NULL, 
	message TEXT NOT NULL, 
	as_of BIGINT, 
	started_at BIGINT NOT NULL, 
	ended_at BIGINT, 
	payload TEXT NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (run_id)
);
CREATE TABLE served (
	usecase TEXT NOT NULL, 
	replica TEXT NOT NULL, 
	model TEXT NOT NULL, 
	version TEXT, 
	champion TEXT, 
	detail TEXT NOT NULL, 
	since BIGINT NOT NULL, 
	seen_at BIGINT NOT NULL, 
	CONSTRAINT pk_served PRIMARY KEY (usecase, replica)
);
INSERT INTO "served" VALUES('fraud','r1','dev-fraud','1','1','{}',1772409600000000,1772409600000000);
CREATE TABLE shadow (
	usecase TEXT NOT NULL, 
	model TEXT NOT NULL, 
	version TEXT NOT NULL, 
	event_id TEXT NOT NULL, 
	role TEXT NOT NULL, 
	raw_score DOUBLE, 
	score DOUBLE, 
	threshold DOUBLE, 
	decision SMALLINT, 
	error TEXT, 
	scored_at BIGINT NOT NULL, 
	CONSTRAINT pk_shadow PRIMARY KEY (usecase, model, version, event_id), 
	CONSTRAINT ck_shadow_scored CHECK (error IS NOT NULL OR (score IS NOT NULL AND decision IS NOT NULL)), 
	CONSTRAINT ck_shadow_score CHECK (score BETWEEN 0 AND 1)
)
 WITHOUT ROWID

;
INSERT INTO "shadow" VALUES('fraud','dev-fraud','2','e00001','challenger',0.75,0.8,0.6,1,NULL,1772409600000000);
CREATE TABLE shadow_watches (
	usecase TEXT NOT NULL, 
	model TEXT NOT NULL, 
	version TEXT NOT NULL, 
	since BIGINT NOT NULL, 
	low_row BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_shadow_watches PRIMARY KEY (usecase, model, version)
);
CREATE TABLE spool_ledger (
	usecase TEXT NOT NULL, 
	writer TEXT NOT NULL, 
	segment BIGINT DEFAULT '0' NOT NULL, 
	position BIGINT DEFAULT '0' NOT NULL, 
	last_seq BIGINT DEFAULT '0' NOT NULL, 
	stored BIGINT DEFAULT '0' NOT NULL, 
	duplicates BIGINT DEFAULT '0' NOT NULL, 
	labels BIGINT DEFAULT '0' NOT NULL, 
	quarantined BIGINT DEFAULT '0' NOT NULL, 
	gaps BIGINT DEFAULT '0' NOT NULL, 
	dropped BIGINT DEFAULT '0' NOT NULL, 
	torn BIGINT DEFAULT '0' NOT NULL, 
	finished SMALLINT DEFAULT '0' NOT NULL, 
	updated_at BIGINT NOT NULL, 
	CONSTRAINT pk_spool_ledger PRIMARY KEY (usecase, writer)
);
INSERT INTO "spool_ledger" VALUES('fraud','w1',2,0,5,5,0,0,0,0,0,0,0,1772409600000000);
CREATE INDEX ix_decisions_kind_seq ON decisions (kind, seq);
CREATE INDEX ix_operations_model_state ON operations (model, state);
CREATE INDEX ix_predictions_usecase_event_time_row_id ON predictions (usecase, event_time, row_id);
CREATE INDEX ix_reports_usecase_kind_as_of ON reports (usecase, kind, as_of);
CREATE INDEX ix_roles_model_role_at ON roles (model, role, at);
CREATE INDEX ix_runs_usecase_flow_started_at ON runs (usecase, flow, started_at);
CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;
CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;
CREATE TRIGGER roles_no_update BEFORE UPDATE ON roles BEGIN SELECT RAISE(ABORT, 'roles is append-only'); END;
CREATE TRIGGER roles_no_delete BEFORE DELETE ON roles BEGIN SELECT RAISE(ABORT, 'roles is append-only'); END;
CREATE TRIGGER decisions_chain BEFORE INSERT ON decisions WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM decisions) OR NEW.prev_hash <> coalesce((SELECT hash FROM decisions ORDER BY seq DESC LIMIT 1), '0000000000000000000000000000000000000000000000000000000000000000') BEGIN SELECT RAISE(ABORT, 'decisions: the row does not follow the last one'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('predictions',5);
INSERT INTO "sqlite_sequence" VALUES('labels',1);
COMMIT;
