"""Damage to files."""


def mutations(data, rng):
    """Flips, cuts, repetitions and exchanges of parts."""
    while True:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            i, j = sorted(rng.randrange(len(changed)) for _ in range(2))
            kind = rng.randrange(6)
            if kind == 0:
                changed[i] = rng.randrange(256)
            elif kind == 1:
                changed[i] ^= 1 << rng.randrange(8)
            elif kind == 2:
                del changed[i : min(j, i + 20)]
            elif kind == 3:
                changed[i:i] = changed[i : min(j, i + 20)]
            elif kind == 4:
                changed[i:i] = bytes([rng.choice(b"2q\x94h0(tls\x86\x85R\x81b\x93aeu}])NK")])
            else:
                changed[i : i + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
            if not changed:
                break
        yield bytes(changed)
