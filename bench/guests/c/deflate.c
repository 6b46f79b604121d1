/* Packs n pieces of 4 MiB of text-like bytes with a small LZ77 of our own,
 * unpacks them and compares. The format: a byte t < 128 is followed by t + 1
 * literal bytes; t >= 128 is a match of t - 128 + 4 bytes, followed by its
 * distance (1 to 65535) in two bytes, low first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "rng.h"

enum { SIZE = 4 << 20, HASH_BITS = 15, MIN = 4, MAX = 131, WINDOW = 65535, CHAIN = 16 };

static uint32_t crc_table[256];

static void crc_init(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int j = 0; j < 8; j++)
			c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
		crc_table[i] = c;
	}
}

static uint32_t crc32(uint32_t c, const uint8_t *p, size_t n)
{
	c = ~c;
	while (n--)
		c = crc_table[(c ^ *p++) & 0xff] ^ c >> 8;
	return ~c;
}

static uint32_t adler32(const uint8_t *p, size_t n)
{
	uint32_t a = 1, b = 0;
	while (n) {
		size_t m = n < 5552 ? n : 5552; /* the most that cannot overflow */
		n -= m;
		while (m--) {
			a += *p++;
			b += a;
		}
		a %= 65521;
		b %= 65521;
	}
	return b << 16 | a;
}

static unsigned hash(const uint8_t *p)
{
	uint32_t v = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	return v * 2654435761u >> (32 - HASH_BITS);
}

static uint8_t *flush(uint8_t *out, const uint8_t *from, size_t n)
{
	while (n) {
		size_t m = n < 128 ? n : 128;
		*out++ = (uint8_t)(m - 1);
		memcpy(out, from, m);
		out += m;
		from += m;
		n -= m;
	}
	return out;
}

/* head and chain hold positions plus one; 0 is none. out has room for n + n/128 + 1. */
static size_t pack(const uint8_t *in, size_t n, uint8_t *out, uint32_t *head, uint32_t *chain)
{
	uint8_t *start = out;
	size_t literal = 0, i = 0;
	memset(head, 0, sizeof *head << HASH_BITS);
	while (i + MIN <= n) {
		unsigned h = hash(in + i);
		size_t best = 0, at = 0, limit = n - i < MAX ? n - i : MAX;
		uint32_t c = head[h];
		for (int tries = 0; c && tries < CHAIN && i - (c - 1) <= WINDOW; tries++, c = chain[c - 1]) {
			size_t len = 0;
			while (len < limit && in[c - 1 + len] == in[i + len])
				len++;
			if (len > best) {
				best = len;
				at = c - 1;
			}
		}
		size_t move = 1;
		if (best >= MIN) {
			out = flush(out, in + literal, i - literal);
			*out++ = (uint8_t)(128 + best - MIN);
			*out++ = (uint8_t)(i - at);
			*out++ = (uint8_t)((i - at) >> 8);
			move = best;
			literal = i + best;
		}
		for (; move && i + MIN <= n; move--, i++) {
			h = hash(in + i);
			chain[i] = head[h];
			head[h] = (uint32_t)i + 1;
		}
		i += move;
	}
	out = flush(out, in + literal, n - literal);
	return (size_t)(out - start);
}

/* Gives 0 where the packed bytes are not what pack makes. */
static size_t unpack(const uint8_t *in, size_t n, uint8_t *out, size_t room)
{
	size_t i = 0, o = 0;
	while (i < n) {
		unsigned t = in[i++];
		if (t < 128) {
			size_t m = t + 1;
			if (m > n - i || m > room - o)
				return 0;
			memcpy(out + o, in + i, m);
			i += m;
			o += m;
			continue;
		}
		size_t m = t - 128 + MIN;
		if (n - i < 2)
			return 0;
		size_t d = in[i] | (size_t)in[i + 1] << 8;
		i += 2;
		if (!d || d > o || m > room - o)
			return 0;
		for (; m; m--, o++)
			out[o] = out[o - d];
	}
	return o;
}

/* Words of a small vocabulary, the frequent ones more often. */
static void text(uint8_t *p, size_t n, uint64_t *state)
{
	char words[256][12];
	int length[256];
	for (int i = 0; i < 256; i++) {
		length[i] = 2 + (int)(next(state) % 9);
		for (int j = 0; j < length[i]; j++)
			words[i][j] = (char)('a' + next(state) % 26);
		words[i][length[i]++] = ' ';
	}
	for (size_t i = 0; i < n;) {
		uint64_t r = next(state);
		int w = (int)(r & 255) & (int)(r >> 8 & 255);
		for (int j = 0; j < length[w] && i < n; j++)
			p[i++] = (uint8_t)words[w][j];
	}
}

int main(int argc, char **argv)
{
	uint64_t start = now();
	int n = scale(argc, argv);
	uint8_t *in = malloc(SIZE), *packed = malloc(SIZE + SIZE / 128 + 1), *back = malloc(SIZE);
	uint32_t *head = malloc(sizeof *head << HASH_BITS), *chain = malloc(SIZE * sizeof *chain);
	uint64_t state = 4;
	uint32_t sum = 0;
	size_t total = 0;
	if (!n || !in || !packed || !back || !head || !chain)
		return 2;
	crc_init();
	for (int i = 0; i < n; i++) {
		text(in, SIZE, &state);
		size_t m = pack(in, SIZE, packed, head, chain);
		if (unpack(packed, m, back, SIZE) != SIZE || memcmp(in, back, SIZE)) {
			fprintf(stderr, "deflate: what was unpacked differs\n");
			return 1;
		}
		total += m;
		sum = crc32(sum, packed, m) ^ adler32(back, SIZE);
	}
	printf("deflate %08x %zu\n", sum, total);
	elapsed(start);
	return 0;
}
