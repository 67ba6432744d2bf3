/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ctl.c - libFuzzer entry: any line as a client's request to a running VM
 */
#include "vm/ctl.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	char said[80];

	if (len > CTL_LINE)
		return 0;
	ctl_parse_only((const char *)data, len, said);
	BUG_IF(strlen(said) >= sizeof(said));
	return 0;
}
