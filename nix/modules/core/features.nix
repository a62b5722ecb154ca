# The catalogue of features: plain data, so that everything that lists them reads the same.
let
  fromStandard = [ "standard" ] ++ fromEnhanced;
  fromEnhanced = [ "enhanced" ] ++ fromProfessional;
  fromProfessional = [
    "professional"
    "enterprise"
  ];
in
{
  containers = {
    summary = "Podman beside the virtual machines.";
    risk = "moderate";
    tiers = fromEnhanced;
  };
  foreign-architectures = {
    summary = "Guests of other processor architectures, emulated by QEMU.";
    risk = "moderate";
    tiers = fromProfessional;
  };
  page-sharing = {
    summary = "Equal memory pages of guests are kept once (KSM); guests can learn from timing what others hold.";
    risk = "high";
    tiers = [ ];
  };
  tpm = {
    summary = "Emulated TPM 2.0 for guests (swtpm).";
    risk = "low";
    tiers = fromStandard;
  };
  virtiofs = {
    summary = "Folders of the host shared with guests (virtiofsd).";
    risk = "low";
    tiers = fromStandard;
  };
}
