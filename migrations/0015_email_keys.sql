-- One person, one account: users are found by a normalized key of their e-mail address (src/base/email.rs), and `email`
-- keeps the spelling that mail is sent to.
--
-- SQL cannot compute the key (UTS 46, full case folding): the server fills it in when it starts (src/db/email_keys.rs). It
-- stays null for a row whose key another account has already; such an account is found by its own spelling.
ALTER TABLE users ADD COLUMN email_key text;
ALTER TABLE users ADD CONSTRAINT users_email_key_unique UNIQUE (email_key);
-- What the server still has to fill in, found without reading every user.
CREATE INDEX users_without_email_key ON users (id) WHERE email_key IS NULL;

-- The spelling that somebody was invited by. It is shown until they accept, because the account's own spelling would say
-- that there is an account.
ALTER TABLE members ADD COLUMN invited_as text;
