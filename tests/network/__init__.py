"""Networks of real kernels: namespaces with veth pairs and bridges, in which rulesets and daemons are tried out."""
