// SPDX-License-Identifier: Apache-2.0
/*
 * topo.c - the command `orrery topo`: shows what a topology's text or a preset's name means
 */
#include "topo.h"

#include <stdio.h>
#include <string.h>

#include "board/topology.h"

#define TOPO_FAILED 125

static const char usage[] =
	"usage: orrery topo [SHAPE|PRESET]\n"
	"\n"
	"Without an argument, lists the presets. With one, shows where each vCPU is.\n"
	"SHAPE is NnNlNcNt: NUMA nodes, last-level caches in total, cores per cache,\n"
	"threads per core.\n";

static int finish(void)
{
	if (fflush(stdout) || ferror(stdout)) {
		fputs("orrery: cannot write to standard output\n", stderr);
		return TOPO_FAILED;
	}
	return 0;
}

static int list_presets(void)
{
	unsigned n;
	const struct topo_preset *p = topo_presets(&n);

	printf("%-24s %-12s %5s\n", "PRESET", "SHAPE", "VCPUS");
	for (unsigned i = 0; i < n; i++) {
		struct topo t = { .nodes = p[i].nodes,
				  .llcs = p[i].llcs,
				  .cores = p[i].cores,
				  .threads = p[i].threads };
		char shape[TOPO_TEXT_MAX];

		topo_format(&t, shape);
		printf("%-24s %-12s %5u\n", p[i].name, shape, topo_cpus(&t));
	}
	return finish();
}

static void print_llc(const struct topo *t, u32 llc)
{
	u32 per_llc = t->cores * t->threads, first = llc * per_llc;

	printf("  package %u, last-level cache %u:", llc, llc);
	for (u32 core = 0; core < t->cores; core++) {
		printf(" ");
		for (u32 k = 0; k < t->threads; k++)
			printf("%s%u", k ? "+" : "", first + core * t->threads + k);
	}
	printf("\n");
}

static int show(const char *text)
{
	char shape[TOPO_TEXT_MAX];
	struct err e = { 0 };
	struct topo t;
	u32 llc = 0;

	if (topo_parse(text, &e, &t) < 0 || topo_validate(&t, 0, &e) < 0) {
		fprintf(stderr, "orrery: %s\n", e.msg);
		return TOPO_FAILED;
	}
	topo_format(&t, shape);
	printf("%s: %u vCPU%s; threads of a core are joined by +\n", shape, topo_cpus(&t),
	       topo_cpus(&t) == 1 ? "" : "s");
	for (u32 node = 0; node < t.nodes; node++) {
		printf("node %u\n", node);
		for (u32 i = 0; i < topo_node_llcs(&t, node); i++)
			print_llc(&t, llc++);
	}
	return finish();
}

int cmd_topo(int argc, char **argv)
{
	if (argc > 2) {
		fprintf(stderr, "orrery: topo: too many arguments: %s\n", argv[2]);
		return TOPO_FAILED;
	}
	if (argc < 2)
		return list_presets();
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		fputs(usage, stdout);
		return finish();
	}
	return show(argv[1]);
}
