-- Whose a request of usage is: its id is unique to the caller that sent it.
--
-- caller is the name in the callers file; NULL: nobody said, which is what a build before this one writes. A request whose id
-- was free is written under the id as it is, where such a build finds it too. One whose id is another caller's is written under
-- the id, U+001F (which no id holds) and the caller's name.
ALTER TABLE usage_requests ADD COLUMN caller TEXT;
