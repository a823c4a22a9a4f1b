-- Rows as stores have written them under the master key [7; 32]: what is sealed opens where it stands.
INSERT INTO lyceum.tenant_key (tenant, version, wrapped) OVERRIDING SYSTEM VALUE
    VALUES ('acme', 141128530, '\x01476f6c9f19d87d6b10bb795f29a3507ee71c76092fe613c9b60e5d60abc6d6d1afaf5d2a264bbc4de1c6178680ad5fb03ce0cbd2ba3218aace28a67adce1f866f551b0f350a7d4347dea8fa622');
INSERT INTO lyceum.owner (id, tenant, user_id, agent, documents, total_length, words_key) OVERRIDING SYSTEM VALUE
    VALUES (1, 'acme', 'ada', 'feynman', 3, 15, 141128530);
INSERT INTO lyceum.session (id, tenant, owner, name, topic, messages, completed, summary, summary_upto, created_at, updated_at, oldest_at, newest_at, sealed_topic, sealed_summary) OVERRIDING SYSTEM VALUE
    VALUES (1, 'acme', 1, 's', '', 4, false, '', 2, 1796080721924, 1796080721943, 1796080721924, 1796080721943, '\x015273690815448fd9dee5ef5c6338bdd9e0f67610882db1548e7528d098ad486f518075219d52cf07afa5897e41ea80187aab9cd6292e32f3abe60f717786dac6adb1b1f4594a', '\x0152736908357f238a4c5e1affb1d4c167367ec4611a6fc4a2add385daf297aab6b9deedcf78b815ecc9c2eea010c4b49e6d5562f3646d5c22ac3168e9839cffc0b26d8a5dc72f12cb67ebb2');
INSERT INTO lyceum.turn (tenant, session, name, first_seq, last_seq, digest) OVERRIDING SYSTEM VALUE
    VALUES ('acme', 1, 'one', 1, 2, '\x0152736908994d5325b64e17210d3fc6ce9c138928f17b096f6e98245c34857e03f1782e3c46d918c7d3e3dda8a053e02369b6e3ba80de2c2cbbe73c12d7873c38a54421ac5cfc6181f7219cf1');
INSERT INTO lyceum.turn (tenant, session, name, first_seq, last_seq, digest) OVERRIDING SYSTEM VALUE
    VALUES ('acme', 1, 'two', 3, 4, '\x01527369086315bd18dd951f196c035279ec9223b7d3119deb4d45b7d8666188a96dc6066a9554c5d12b55f3ef903c37bb1eb3e726f0b43e405e8183fb6cbfc43322d868f16905568e64fc5e85');
INSERT INTO lyceum.message (tenant, session, seq, turn, role, content, created_at, sealed) OVERRIDING SYSTEM VALUE
    VALUES ('acme', 1, 1, 'one', 'user', '', 1796080721924, '\x0152736908ee78a586013b8141327ceb74fa9a24f6d2148d6e7bd6fb6628a9b76672c5634c6f23a5c66475b57c0cff3e045e58820caf84f87aaefb6394e8ebd276ec9d5a5f4f64745b44bced94de1e');
INSERT INTO lyceum.message (tenant, session, seq, turn, role, content, created_at, sealed) OVERRIDING SYSTEM VALUE
    VALUES ('acme', 1, 2, 'one', 'assistant', '', 1796080721924, '\x0152736908070a418b9319742cc02b2d1c164e050dd7d9009893d7aacb5ad0c9c9c834ccd2d7b78fcb5fdc5fbd8ed1188f440f106ecac14f7c8c');
INSERT INTO lyceum.message (tenant, session, seq, turn, role, content, created_at, sealed) OVERRIDING SYSTEM VALUE
    VALUES ('acme', 1, 3, 'two', 'user', '', 1796080721943, '\x015273690898d564ac74b0cf323eaee690a95f18f37e3076e6b274312ab2de3ecdb36449084254a73f8352d37dd575d5ec89f1012e946d3066fb489226ebf3700e7e1698b44de6d650e035226c2544');
INSERT INTO lyceum.message (tenant, session, seq, turn, role, content, created_at, sealed) OVERRIDING SYSTEM VALUE
    VALUES ('acme', 1, 4, 'two', 'assistant', '', 1796080721943, '\x0152736908aab1e048bfe0cbb69ba592d8a8bda4852659c01f5af79230f2325a335ec5f6347e1a4c2da655b91aeee1564b0e50e5ca50428dabca');
INSERT INTO lyceum.memory (id, tenant, owner, name, kind, topic, text, importance, session, created_at, context, valid_from, recorded_at, bounded, sealed) OVERRIDING SYSTEM VALUE
    VALUES (1, 'acme', 1, 'memory-one', 'episode', '', '', 0.5, 's', 1796080721924, '', 1796080721924, 1796080721924, false, '\x015273690808d9a96664ed0342846aab31a696087d260ca1f9ad879085abd38c8f05deb32c350d5a344112eac0e45eabd6e10597644b0802f11a3eeabc65fcabe2a444f613f0d5657a9b101bb9469eb51d2925495702799a905ba5bc26faae310d03c302d9db7d6fed34ad003f2b463706079ad52b96a9cee889348a');
INSERT INTO lyceum.memory (id, tenant, owner, name, kind, topic, text, importance, session, created_at, context, valid_from, recorded_at, bounded, sealed) OVERRIDING SYSTEM VALUE
    VALUES (2, 'acme', 1, 'memory-two', 'episode', '', '', 0.5, 's', 1796080721943, '', 1796080721943, 1796080721943, false, '\x01527369086737315a8274e487703aed80b0372ab841e9e0510ad645327ebe0945c09e1a7cc8ca2cb9e8fbef06c2b35eb65e88d8912b0d2c50cb034b41aa0b2a526da67b29ba85afd35291c16106223268ed6c064ef00cb7473085aab228b82d2edf8abfd907d74c43a26e327253de110805799522e456a98833c728');
INSERT INTO lyceum.memory (id, tenant, owner, name, kind, topic, text, importance, session, created_at, context, valid_from, valid_to, recorded_at, bounded, sealed) OVERRIDING SYSTEM VALUE
    VALUES (3, 'acme', 1, 'memory-kept', 'fact', '', '', 0.5, 's', 1796080721977, '', 1796080721977, 4000000000000, 1796080721977, true, '\x0152736908ce0927a0fffd865eb0456cd3588d6e5e92bec362ac11147912af6f53553a4110c522903599eb1b10fadb61b46b4a11446109d4c3a86194aea410187b5f667564c8b2e7aed3116543ea1f41');
INSERT INTO lyceum.job (id, tenant, name, session, owner, kind, payload, phase, due_at, epoch, attempts, reason, created_at, sealed) OVERRIDING SYSTEM VALUE
    VALUES (2, 'acme', '01a22ec0-e019-7623-aef5-e05ebc309a48', 1, 1, 'note', '', 0, 1796080721949, 0, 0, '', 1796080721949, '\x01527369088e23ee7134cc90d00b1769fc45df4b1273f19bb4b01718cca6f09d0d276c28dbf8d27629f1ec38b0beddfa5998897227120e2fc085641884dd13f7b8e428d3f967f87b');
INSERT INTO lyceum.record (tenant, kind, name, grouped, seq, revision, written_by, body, sealed) OVERRIDING SYSTEM VALUE
    VALUES ('acme', 'answer', 'a', '', 1, 1, -7354800444133919157, '', '\x01527369087eca02a7af3561665ae15ceb1d10251f5e49f0984cfc8e2277ccfef02d22272ec672a827fd2f6f09c854363ad3aa771d4e8fedeeada3e32eb1ff5854184e8612');
