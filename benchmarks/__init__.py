"""What the README says about speed, measured again: Annals and Synapse beside each other in one run.

make bench                          # both, three runs, a table with ratios
make bench ARGS="--quick"           # one short run
make bench ARGS="--only annals"
make bench ARGS="--profile"         # Annals alone, sampled meanwhile

__main__     the run: starts the peers, lets a generator measure each in turn, prints the table
peers        how a server is started and what its process tree is; synapse has Synapse's settings
generator    a process of its own that makes the traffic (works) and takes the CPU time of the server's tree
figures      medians, ratios, tables
profiling    where the time goes
"""
