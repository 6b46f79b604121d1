/* Five bodies pull at one another; 100,000 n steps. The sums are made in the same
 * order as in the Go guest, without fused operations (-ffp-contract=off), so that
 * both print the same bits. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "rng.h"

enum { BODIES = 5 };

static double pos[BODIES][3], vel[BODIES][3], mass[BODIES];

static double unit(uint64_t *state) { return (double)(next(state) >> 11) / 9007199254740992.0; }

static void step(double dt)
{
	for (int i = 0; i < BODIES; i++)
		for (int j = i + 1; j < BODIES; j++) {
			double d[3], r2 = 0.01;
			for (int k = 0; k < 3; k++) {
				d[k] = pos[i][k] - pos[j][k];
				r2 = r2 + d[k] * d[k];
			}
			double pull = dt / (r2 * sqrt(r2));
			for (int k = 0; k < 3; k++) {
				vel[i][k] = vel[i][k] - d[k] * mass[j] * pull;
				vel[j][k] = vel[j][k] + d[k] * mass[i] * pull;
			}
		}
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++)
			pos[i][k] = pos[i][k] + dt * vel[i][k];
}

int main(int argc, char **argv)
{
	uint64_t start = now();
	int n = scale(argc, argv);
	uint64_t state = 3, sum = 14695981039346656037u, bits;
	if (!n)
		return 2;
	for (int i = 0; i < BODIES; i++) {
		mass[i] = 0.5 + unit(&state);
		for (int k = 0; k < 3; k++) {
			pos[i][k] = 10 * unit(&state) - 5;
			vel[i][k] = unit(&state) - 0.5;
		}
	}
	for (int i = 0; i < 100000 * n; i++)
		step(0.001);
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++) {
			memcpy(&bits, &pos[i][k], sizeof bits);
			sum = (sum ^ bits) * 1099511628211u;
		}
	printf("nbody %016llx\n", (unsigned long long)sum);
	elapsed(start);
	return 0;
}
