"""All tables of the first version, and the guards of the append-only ones.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("decisions", "roles")
GENESIS = "0" * 64
BROKEN = "NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM decisions) OR NEW.prev_hash <> coalesce((SELECT hash FROM decisions ORDER BY seq DESC LIMIT 1), '" + GENESIS + "')"


def upgrade() -> None:
    _create_tables()
    _guard_sqlite() if op.get_bind().dialect.name == "sqlite" else _guard_postgresql()


def _guard_sqlite() -> None:
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    op.execute(
        f"CREATE TRIGGER decisions_chain BEFORE INSERT ON decisions WHEN {BROKEN} "
        "BEGIN SELECT RAISE(ABORT, 'decisions: the row does not follow the last one'); END"
    )


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION incumbent_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    op.execute(
        "CREATE FUNCTION incumbent_chain() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {BROKEN} THEN RAISE EXCEPTION 'decisions: the row does not follow the last one' "
        "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION incumbent_refuse()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION incumbent_refuse()"
        )
    op.execute(
        "CREATE TRIGGER decisions_chain BEFORE INSERT ON decisions "
        "FOR EACH ROW EXECUTE FUNCTION incumbent_chain()"
    )


def _create_tables() -> None:
    op.create_table('decisions',
        sa.Column('seq', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=False, nullable=False),
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('payload', sa.Text(), nullable=False),
        sa.Column('actor', sa.Text(), nullable=False),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('recorded_at', sa.BigInteger(), nullable=False),
        sa.Column('prev_hash', sa.Text(), nullable=False),
        sa.Column('hash', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('seq', name=op.f('pk_decisions')),
        sa.UniqueConstraint('hash', name=op.f('uq_decisions_hash'))
    )
    op.create_index(op.f('ix_decisions_kind_seq'), 'decisions', ['kind', 'seq'], unique=False)
    op.create_table('labels',
        sa.Column('label_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('event_id', sa.Text(), nullable=False),
        sa.Column('y', sa.SmallInteger(), nullable=False),
        sa.Column('observed_at', sa.BigInteger(), nullable=False),
        sa.Column('source', sa.Text(), nullable=False),
        sa.Column('received_at', sa.BigInteger(), nullable=False),
        sa.Column('stored_at', sa.BigInteger(), nullable=False),
        sa.CheckConstraint('y IN (0, 1)', name=op.f('ck_labels_y')),
        sa.PrimaryKeyConstraint('label_id', name=op.f('pk_labels')),
        sa.UniqueConstraint('usecase', 'event_id', 'source', 'y', 'observed_at', name=op.f('uq_labels_usecase_event_id_source_y_observed_at')),
        sqlite_autoincrement=True
    )
    op.create_table('leases',
        sa.Column('name', sa.Text(), nullable=False),
        sa.Column('holder', sa.Text(), nullable=False),
        sa.Column('epoch', sa.BigInteger(), nullable=False),
        sa.Column('acquired_at', sa.BigInteger(), nullable=False),
        sa.Column('expires_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('name', name=op.f('pk_leases'))
    )
    op.create_table('operations',
        sa.Column('op_id', sa.Text(), nullable=False),
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('model', sa.Text(), nullable=False),
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('from_version', sa.Text(), nullable=True),
        sa.Column('to_version', sa.Text(), nullable=False),
        sa.Column('previous_version', sa.Text(), nullable=True),
        sa.Column('evidence', sa.Text(), nullable=False),
        sa.Column('contract', sa.Text(), nullable=False),
        sa.Column('state', sa.Text(), nullable=False),
        sa.Column('epoch', sa.BigInteger(), nullable=False),
        sa.Column('actor', sa.Text(), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('note', sa.Text(), nullable=False),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('updated_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('op_id', name=op.f('pk_operations'))
    )
    op.create_index(op.f('ix_operations_model_state'), 'operations', ['model', 'state'], unique=False)
    op.create_table('plans',
        sa.Column('plan_id', sa.Text(), nullable=False),
        sa.Column('names', sa.Text(), nullable=False),
        sa.Column('stored_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('plan_id', name=op.f('pk_plans'))
    )
    op.create_table('predictions',
        sa.Column('row_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('event_id', sa.Text(), nullable=False),
        sa.Column('event_time', sa.BigInteger(), nullable=False),
        sa.Column('received_at', sa.BigInteger(), nullable=False),
        sa.Column('origin', sa.Text(), nullable=False),
        sa.Column('body', sa.LargeBinary(), nullable=False),
        sa.Column('plan_id', sa.Text(), nullable=True),
        sa.Column('features', sa.LargeBinary(), nullable=True),
        sa.Column('model', sa.Text(), nullable=True),
        sa.Column('version', sa.Text(), nullable=True),
        sa.Column('alias', sa.Text(), nullable=True),
        sa.Column('contract', sa.Text(), nullable=True),
        sa.Column('raw_score', sa.Double(), nullable=True),
        sa.Column('score', sa.Double(), nullable=True),
        sa.Column('threshold', sa.Double(), nullable=True),
        sa.Column('decision', sa.SmallInteger(), nullable=True),
        sa.Column('propensity', sa.Double(), nullable=True),
        sa.Column('stored_at', sa.BigInteger(), nullable=False),
        sa.CheckConstraint("origin <> 'live' OR (score IS NOT NULL AND threshold IS NOT NULL AND decision IS NOT NULL AND model IS NOT NULL AND version IS NOT NULL)", name=op.f('ck_predictions_answered')),
        sa.CheckConstraint("origin IN ('live', 'history', 'event', 'late')", name=op.f('ck_predictions_origin')),
        sa.CheckConstraint('raw_score BETWEEN 0 AND 1', name=op.f('ck_predictions_raw_score')),
        sa.CheckConstraint('score BETWEEN 0 AND 1', name=op.f('ck_predictions_score')),
        sa.PrimaryKeyConstraint('row_id', name=op.f('pk_predictions')),
        sa.UniqueConstraint('usecase', 'event_id', name=op.f('uq_predictions_usecase_event_id')),
        sqlite_autoincrement=True
    )
    op.create_index(op.f('ix_predictions_usecase_event_time_row_id'), 'predictions', ['usecase', 'event_time', 'row_id'], unique=False)
    op.create_table('quarantine',
        sa.Column('quarantine_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('writer', sa.Text(), nullable=False),
        sa.Column('segment', sa.BigInteger(), nullable=False),
        sa.Column('position', sa.BigInteger(), nullable=False),
        sa.Column('seq', sa.BigInteger(), nullable=False),
        sa.Column('records', sa.BigInteger(), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('payload', sa.LargeBinary(), nullable=False),
        sa.Column('stored_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('quarantine_id', name=op.f('pk_quarantine'))
    )
    op.create_table('reports',
        sa.Column('report_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('model', sa.Text(), nullable=True),
        sa.Column('challenger', sa.Text(), nullable=True),
        sa.Column('as_of', sa.BigInteger(), nullable=False),
        sa.Column('outcome', sa.Text(), nullable=False),
        sa.Column('payload', sa.Text(), nullable=False),
        sa.Column('digest', sa.Text(), nullable=False),
        sa.Column('html', sa.Text(), nullable=True),
        sa.Column('run_id', sa.Text(), nullable=True),
        sa.Column('stored_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('report_id', name=op.f('pk_reports'))
    )
    op.create_index(op.f('ix_reports_usecase_kind_as_of'), 'reports', ['usecase', 'kind', 'as_of'], unique=False)
    op.create_table('roles',
        sa.Column('role_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
        sa.Column('seq', sa.BigInteger(), nullable=False),
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('model', sa.Text(), nullable=False),
        sa.Column('role', sa.Text(), nullable=False),
        sa.Column('version', sa.Text(), nullable=True),
        sa.Column('contract', sa.Text(), nullable=True),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('recorded_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('role_id', name=op.f('pk_roles'))
    )
    op.create_index(op.f('ix_roles_model_role_at'), 'roles', ['model', 'role', 'at'], unique=False)
    op.create_table('runs',
        sa.Column('run_id', sa.Text(), nullable=False),
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('flow', sa.Text(), nullable=False),
        sa.Column('state', sa.Text(), nullable=False),
        sa.Column('message', sa.Text(), nullable=False),
        sa.Column('as_of', sa.BigInteger(), nullable=True),
        sa.Column('started_at', sa.BigInteger(), nullable=False),
        sa.Column('ended_at', sa.BigInteger(), nullable=True),
        sa.Column('payload', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('run_id', name=op.f('pk_runs'))
    )
    op.create_index(op.f('ix_runs_usecase_flow_started_at'), 'runs', ['usecase', 'flow', 'started_at'], unique=False)
    op.create_table('served',
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('replica', sa.Text(), nullable=False),
        sa.Column('model', sa.Text(), nullable=False),
        sa.Column('version', sa.Text(), nullable=True),
        sa.Column('champion', sa.Text(), nullable=True),
        sa.Column('detail', sa.Text(), nullable=False),
        sa.Column('since', sa.BigInteger(), nullable=False),
        sa.Column('seen_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('usecase', 'replica', name=op.f('pk_served'))
    )
    op.create_table('shadow',
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('model', sa.Text(), nullable=False),
        sa.Column('version', sa.Text(), nullable=False),
        sa.Column('event_id', sa.Text(), nullable=False),
        sa.Column('role', sa.Text(), nullable=False),
        sa.Column('raw_score', sa.Double(), nullable=True),
        sa.Column('score', sa.Double(), nullable=True),
        sa.Column('threshold', sa.Double(), nullable=True),
        sa.Column('decision', sa.SmallInteger(), nullable=True),
        sa.Column('error', sa.Text(), nullable=True),
        sa.Column('scored_at', sa.BigInteger(), nullable=False),
        sa.CheckConstraint('error IS NOT NULL OR (score IS NOT NULL AND decision IS NOT NULL)', name=op.f('ck_shadow_scored')),
        sa.CheckConstraint('score BETWEEN 0 AND 1', name=op.f('ck_shadow_score')),
        sa.PrimaryKeyConstraint('usecase', 'model', 'version', 'event_id', name=op.f('pk_shadow')),
        sqlite_with_rowid=False
    )
    op.create_table('shadow_watches',
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('model', sa.Text(), nullable=False),
        sa.Column('version', sa.Text(), nullable=False),
        sa.Column('since', sa.BigInteger(), nullable=False),
        sa.Column('low_row', sa.BigInteger(), server_default='0', nullable=False),
        sa.PrimaryKeyConstraint('usecase', 'model', 'version', name=op.f('pk_shadow_watches'))
    )
    op.create_table('spool_ledger',
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('writer', sa.Text(), nullable=False),
        sa.Column('segment', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('position', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('last_seq', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('stored', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('duplicates', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('labels', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('quarantined', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('gaps', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('dropped', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('torn', sa.BigInteger(), server_default='0', nullable=False),
        sa.Column('finished', sa.SmallInteger(), server_default='0', nullable=False),
        sa.Column('updated_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('usecase', 'writer', name=op.f('pk_spool_ledger'))
    )


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first version; drop the database instead")
