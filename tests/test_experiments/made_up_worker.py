"""In the place of the process of a run: waits, fails or ends as the options of its job say."""

import json
import subprocess
import sys
import time
from pathlib import Path

job = json.loads(Path(sys.argv[1]).read_text())
folder, options = Path(job['folder']), job['options']
with (folder / 'calls').open('a') as calls:
    calls.write('x')
if options.get('leave'):  # as a data loader's worker does that waits for a process which was killed
    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', str(folder / 'config.py')])
if 'wait' in options:  # until that file is there
    (folder / 'waits').touch()
    while not Path(options['wait']).exists():
        time.sleep(0.02)
if options.get('fail') and not Path(options['fail']).exists():
    print('something before')
    print('error: it is broken')
    sys.exit(2)
if options.get('gone'):
    sys.exit(75)
config = {'file': (folder / 'config.py').relative_to(job['root']).as_posix()}
if job['kind'] == 'measure':
    values = {'rows': {row['key']: {} for row in options['rows']}}
elif 'values' in options:
    values = options['values']
else:
    metrics = {'test': {'mIoU': options['metric'] + (job['seed'] or 0)}}
    values = {'metrics': metrics, 'sparsity': 0.25, 'macs': 1, 'shape': options['shape']['tuple'], 'config': config}
result = {'values': values, 'environment': {'device': job['device']}, 'seconds': 0.1}
(folder / 'result.json').write_text(json.dumps(result))
