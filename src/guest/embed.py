#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py - turns a file into a C array: embed.py FILE SYMBOL OUTPUT

Not `ld -r -b binary`, whose symbol names contain the path it was called with.
"""
import sys

data = open(sys.argv[1], 'rb').read()
name = sys.argv[2]
with open(sys.argv[3], 'w') as out:
    out.write('#include <stddef.h>\nextern const unsigned char %s[];\n' % name)
    out.write('extern const size_t %s_len;\n' % name)
    out.write('const size_t %s_len = %d;\nconst unsigned char %s[] = {\n' % (name, len(data), name))
    for i in range(0, len(data), 24):
        out.write(','.join(map(str, data[i:i + 24])) + ',\n')
    out.write('};\n')
