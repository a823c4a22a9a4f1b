-- Rows as stores have written them under the master key [7; 32]: what is sealed opens where it stands.
INSERT INTO tenant_key (tenant, version, wrapped)
    VALUES ('acme', 855673499, x'01476f6c9fb21c85e38734d9cae2700a5be4e40c83f859130139aee498db10bcdf9bd6c65fcea1e996d487764e7c06a7fad26d34bdcb9f2516e9175e8b87aeb6b09609faa7bb21378bad8f9dac94');
INSERT INTO owner (id, tenant, user, agent, documents, total_length, words_key)
    VALUES (1, 'acme', 'ada', 'feynman', 3, 15, 855673499);
INSERT INTO session (id, owner, name, topic, messages, completed, summary, summary_upto, created_at, updated_at, sealed_topic, sealed_summary)
    VALUES (1, 1, 's', '', 4, 0, '', 2, 1796080716251, 1796080716263, x'019b8a00335c3ec9802b9f2a121cdf98956deb214492e72f0a1bd484be4b30f7ce7b46b63e5cd76707c37327d704472b58c4fc8128f8e38dd3ca4a50bd82ea121359c5dbcb359d', x'019b8a003351bea479a3eda28f3a857614a65881d10c990d5ddc33f00310d6a06f68ef3c9aa0fb90bffbf350660d2440c364ff08c62cf2d4a81d3d5e7ddc2f1e4d7958c677d3c815f5f00a80');
INSERT INTO turn (session, name, first_seq, last_seq, digest)
    VALUES (1, 'one', 1, 2, x'019b8a00332a7231360f38644922c8e993675bf97733a14f9e974e48ad741747ce5536dce406b216cd746b01c064d616d5f7c397c52aac9b5c98b84699de4c551baafddf8f79d8dd9e5cb51873');
INSERT INTO turn (session, name, first_seq, last_seq, digest)
    VALUES (1, 'two', 3, 4, x'019b8a00339905b480fe40523cc3b3e8d467a5635654d8957403a29485c6942d739919e639b8c8698eadd15ef7fec64a55b20572d9251320d40e595204b38ee28a6a918e75bea9d5e937e80c96');
INSERT INTO message (id, session, seq, turn, role, content, created_at, sealed)
    VALUES (1, 1, 1, 'one', 'user', '', 1796080716251, x'019b8a00330f064ed1375cae7b0ed379bd298ed5400551e3e287075424b391397775119d9f6500513e22c9ac3a04c8cbefbb3c3470ceb45045a2ce6e47400fef918ada208b6bb96492a9ffb79e2441');
INSERT INTO message (id, session, seq, turn, role, content, created_at, sealed)
    VALUES (2, 1, 2, 'one', 'assistant', '', 1796080716251, x'019b8a0033c91f4c9550f6eacd6a85c549af4a19b8ea537c18a86d771f9798d8ea35c2b9cf257016402a9257b9fb0773bda71f6865f0cd73a78e');
INSERT INTO message (id, session, seq, turn, role, content, created_at, sealed)
    VALUES (3, 1, 3, 'two', 'user', '', 1796080716263, x'019b8a0033c9c214e087ba7a62e6bdb4d25ea0f9597959f4d0f8fccba75c59edb59fe8f5cf0e7cdf4fe8367da14675d9d4e45e607d5c325fc15d1f1438c14737ec625ff5bb89ffb0a8ee1d9251cd6f');
INSERT INTO message (id, session, seq, turn, role, content, created_at, sealed)
    VALUES (4, 1, 4, 'two', 'assistant', '', 1796080716263, x'019b8a00336f004d22231dd8ac41275f9414e96073b48074f7288030019e7e7761c705a444aca08594e4e5d1aad0db1771f01e527cc7d5e23c9d');
INSERT INTO memory (id, owner, name, kind, topic, text, importance, session, created_at, context, valid_from, recorded_at, bounded, sealed)
    VALUES (1, 1, 'memory-one', 'episode', '', '', 0.5, 's', 1796080716251, '', 1796080716251, 1796080716251, 0, x'019b8a00337685e3df68afbe577de92b4cec40aa20fedfe98b1d107ef0404afaed51faa593d395c446fd2ba9bc6203d0fa49c108cd34af1d64c616930e3126841e3669c3cdc5710f476b488ca5b1eb2913696c8e9051fc1377848ffba69cb70f2f4e19f4af9b3415f86d5e0f21533b7f127c66c1fdf90bb0b65d927a');
INSERT INTO memory (id, owner, name, kind, topic, text, importance, session, created_at, context, valid_from, recorded_at, bounded, sealed)
    VALUES (2, 1, 'memory-two', 'episode', '', '', 0.5, 's', 1796080716263, '', 1796080716263, 1796080716263, 0, x'019b8a0033858836010c1392f6369da0c6e00d4a62e4abf29ff0dcb4e30eb8cc70ef71f58d83701fbe27ecd418c322d685e87b7afc20f8cc78decad7c63c059823a7b417d6eaf7428da84847bb41d9da1aebd1d228ee40c097c4840152112931a96a15b943e86a9609bbc3fb89e3df1fca6237de7c28ddcf5cda61c6');
INSERT INTO memory (id, owner, name, kind, topic, text, importance, session, created_at, context, valid_from, valid_to, recorded_at, bounded, sealed)
    VALUES (3, 1, 'memory-kept', 'fact', '', '', 0.5, 's', 1796080716283, '', 1796080716283, 4000000000000, 1796080716283, 1, x'019b8a00334f8bf9508bd1df4c29499957c4f424715c4c9ca9a3330613f4342b6ebc8e538068990dca39cb2e02b69c4fe2fdbe7cba390116c622ad7d089d1c3c69da481d9b704347aec1bdb93e25e0a1');
INSERT INTO job (id, name, session, owner, kind, payload, phase, due_at, epoch, attempts, reason, created_at, sealed)
    VALUES (2, '01a22ec0-c9e9-701f-947b-9243ea4ceada', 1, 1, 'note', '', 0, 1796080716263, 0, 0, '', 1796080716263, x'019b8a00331cfca0485a774ae19ad2f9e36436a35d5747e32d6c362872b1aaa596c25bc82477f36daa925da032c5821979c5487c6a3115a0929bf37691cb6a3ceec86d6707349c0c');
INSERT INTO record (seq, tenant, kind, name, grouped, revision, body, sealed)
    VALUES (1, 'acme', 'answer', 'a', '', 1, '', x'019b8a0033b217b722aad9b2aa5973c98e5367fa9c4d0880b8cba27326d2348abad1636bd2ab7652a753ad9275dfdf15cdec4aaaaba673d6e8f8f6ad6c7b088475616d1339');
INSERT INTO vector_space (id, model, dimensions, upto)
    VALUES (1, 'numbers', 2, 2);
INSERT INTO vector (id, space, owner, memory, data)
    VALUES (1, 1, 1, 1, x'019b8a0033fa2cf8285a63f52ad5a7206612a5e4b3b901a2ea6846aa33c7d6df52c9f7b4881d4ee86124369925fdf53ed0794564b5');
INSERT INTO vector (id, space, owner, memory, data)
    VALUES (2, 1, 1, 2, x'019b8a0033b5bde354577fb0d877e2b4d090e8d164e47fd67659196d99ddd4fd30654472e63b7ee1eb705ee935a9cb305f729c28fa');
