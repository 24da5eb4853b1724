-- Decisions and retries may be sent twice too.

ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_operation_check;
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_operation_check
    CHECK (operation IN ('CreateTask', 'CreatePost', 'ApproveTask', 'RejectTask', 'RetryTask'));
