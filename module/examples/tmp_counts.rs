use wasmparser::*;
fn main(){ for f in std::env::args().skip(1){ let b=std::fs::read(&f).unwrap();
 let (mut fu,mut im,mut ty,mut big,mut inst,mut mems,mut tabs,mut tabmin,mut ci)=(0u64,0u64,0u64,0usize,0u32,0,0,0u64,0u32);
 let mut p=Parser::new(0); p.set_features(muster_module::features());
 for x in p.parse_all(&b){ match x.unwrap(){ Payload::CodeSectionStart{count,..}=>fu+=count as u64, Payload::CodeSectionEntry(c)=>big=big.max(c.range().len()),
 Payload::ImportSection(s)=>im+=s.count() as u64, Payload::TypeSection(s)=>ty+=s.count() as u64, Payload::ComponentTypeSection(s)=>ty+=s.count() as u64,
 Payload::InstanceSection(s)=>{ for i in s { if let Instance::Instantiate{..}=i.unwrap(){inst+=1} } },
 Payload::ComponentInstanceSection(s)=>ci+=s.count(), Payload::MemorySection(s)=>mems+=s.count(), Payload::TableSection(s)=>{tabs+=s.count(); for t in s {tabmin=tabmin.max(t.unwrap().ty.initial)}}, _=>{} } }
 println!("{f}: {} bytes functions {fu} imports {im} types {ty} biggest {big} core instances {inst} comp instances {ci} memories {mems} tables {tabs} tablemin {tabmin}", b.len());
 let t=std::time::Instant::now(); let r=muster_module::inspect(&b); println!("  inspect {:?}: {:?}", t.elapsed(), r.map(|i|(i.kind,i.imports,i.exports)));
}}
